"""Blobs that change hands as files, between processes of one user on one machine.

Theory. A peer that says our boot id is told of a folder; it proves by a secret in there that it
sees our files, as our user. Then it lays a whole blob into the folder and offers it by the name of
the file, which is moved among the blobs; and a blob that it fetches is named by its path, to be
linked or mapped. The path is always ours: a peer only ever says a random name. The hash is
believed: whoever passed the proof could write into the folder of blobs as well. What was laid down
and never offered is removed with its session, or when the next coordinator starts.
"""

import logging
import secrets
import shutil
from collections.abc import Coroutine
from pathlib import Path

from lineshaft_coordinator.data.adopting import Adopting
from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.data.blob_files import FOLDER_MODE
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_protocol.blob_messages import SameHost, SameHostFolder
from lineshaft_protocol.client_messages import Finished
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign
from lineshaft_runtime.same_host import SECRET_FILE, boot_id

logger = logging.getLogger(__name__)

NOWHERE = SameHostFolder()


class Porch:
    """Where peers of this machine lay blobs down; made anew by each coordinator.

    Args:
        folder: Of this coordinator alone, on the file system of the blobs.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=FOLDER_MODE, parents=True)
        self.folder = folder.resolve()
        self.boot_id = boot_id()
        self.adopting = Adopting()


class Handover:
    """One session's use of the porch."""

    def __init__(self, store: BlobStore, porch: Porch | None) -> None:
        self._store, self._porch = store, porch
        self._folder: Path | None = None
        self._secret = ""
        self.is_proven = False

    def answer(self, asked: SameHost) -> SameHostFolder:
        """Say where to prove it, or that it is proven, or that there is no such way."""
        porch = self._porch
        if porch is None or not porch.boot_id or asked.boot_id != porch.boot_id:
            return NOWHERE
        if asked.secret is None:
            try:
                return self._invite(porch)
            except OSError as error:
                logger.warning("blobs go over the connection", extra={"why": str(error)})
                return NOWHERE
        if self._folder is None or not secrets.compare_digest(asked.secret, self._secret):
            return NOWHERE
        self.is_proven = True
        return SameHostFolder(
            folder=str(self._folder), is_proven=True, free_bytes_min=self._store.free_bytes_min
        )

    def _invite(self, porch: Porch) -> SameHostFolder:
        if self._folder is None:
            folder = porch.folder / secrets.token_hex(8)
            folder.mkdir(mode=FOLDER_MODE)
            self._folder, self._secret = folder, secrets.token_hex(16)
            (folder / SECRET_FILE).touch(0o600)
            (folder / SECRET_FILE).write_text(self._secret)
        return SameHostFolder(folder=str(self._folder))

    def adopt(self, blob_id: str, name: str, size_bytes: int) -> Coroutine[None, None, None] | None:
        """Take a file over that the peer laid down: done at once, or what is to be awaited.

        Raises:
            BlobError: It cannot be stored; the file is removed. Also when awaited.
        """
        if not self.is_proven or self._folder is None or self._porch is None:
            raise BlobError("no files are taken on this connection; offer it without one")
        adopting, path = self._porch.adopting, self._folder / name
        if adopting.is_quick(self._store, blob_id, size_bytes):
            adopting.at_once(self._store, blob_id, path, size_bytes)
            return None
        return adopting.in_thread(self._store, blob_id, path, size_bytes)

    def close(self) -> None:
        """The session is gone, and what it laid down as well."""
        folder, self._folder, self.is_proven = self._folder, None, False
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def named_by(message: Wire) -> BlobId | None:
    """Name the blob that a message makes its reader ask for next; None if there is none."""
    payload: Payload | None = None
    if type(message) is Assign:
        payload = message.job.payload
    elif type(message) is Finished:
        payload = message.outcome.result
    blob = None if payload is None else payload.blob
    return None if blob is None else BlobId(blob)
