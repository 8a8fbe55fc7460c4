"""The peer's side of handing blobs over as files, to a coordinator on the same machine.

Theory. On every connection the coordinator is asked, by boot id, whether it is here; its answer
names a folder, and what we read there proves it (another container has the boot id, but not the
folder). From then on large blobs are laid into that folder and offered by name, or fetched as a
path. Nobody has to know that there is such a way: whatever goes wrong with it, the answer is "not
this way", and the blob goes over the connection, which has the last word on errors.
"""

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lineshaft_protocol.blob_messages import (
    BlobHere,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
    SameHost,
    SameHostFolder,
)
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.values import value
from lineshaft_runtime.laid_files import FileLayer, LaidFile

logger = logging.getLogger(__name__)

FEATURE = "same_host"
SECRET_FILE = "secret"  # noqa: S105 - the name of a file
FILE_BYTES_MIN = 64 * 1024
"""Shorter blobs go over the connection: a file costs more than they do."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SECRET_CHARACTERS = 32
_TOLD_MAX = 1024
"""Paths remembered that were told before anybody asked."""

ToCoordinator = SameHost | BlobOffer | FetchBlob
FromCoordinator = SameHostFolder | BlobHere | BlobStatus | BlobRefused | BlobMissing
Write = Callable[[Path], None]
BytesLike = bytes | bytearray | memoryview


def boot_id() -> str:
    """The running kernel's; empty where there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class SameHostFiles:
    """Files instead of bytes, as long as the coordinator turns out to be on this machine.

    Used from one event loop only, but for `lay`.

    Args:
        send: Sends a control message on the current connection.
        on_change: Called with `is_open` when it changes.
    """

    def __init__(
        self,
        send: Callable[[ToCoordinator], None],
        on_change: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        self._send, self._on_change = send, on_change
        self._boot_id = ""
        self._folder: Path | None = None
        self._free_bytes_min = 0
        self._is_known = asyncio.Event()
        """Whether the coordinator has answered, or was not asked."""
        self._is_known.set()
        self._given: dict[BlobId, asyncio.Future[bool]] = {}
        self._wanted: dict[BlobId, asyncio.Future[Path | None]] = {}
        self._layer = FileLayer()
        self._told: dict[BlobId, Path] = {}
        """Where blobs lie that messages on this connection name; the coordinator said it ahead."""

    @property
    def is_open(self) -> bool:
        """Whether the coordinator is here, for all we know."""
        return self._folder is not None

    # --- blobs ---

    def lay(self, buffers: Sequence[BytesLike]) -> LaidFile | None:
        """Write a blob to where the coordinator will take it from, to be given by and by.

        May be called in any thread. None if it has to be kept in memory.
        """
        folder = self._folder
        if folder is None or sum(memoryview(each).nbytes for each in buffers) < FILE_BYTES_MIN:
            return None
        return self._layer.lay(folder, buffers, free_bytes_min=self._free_bytes_min)

    async def give(self, blob_id: BlobId, size_bytes: int, write: Write | LaidFile) -> bool:
        """Hand a blob over; False if it must go over the connection.

        Args:
            blob_id: SHA-256 of the content.
            size_bytes: Its length.
            write: Makes a file of it, which must not exist; called in a thread. Or the file, if
                there is one.
        """
        if size_bytes < FILE_BYTES_MIN:
            return False
        await self._is_known.wait()
        if self._folder is None:
            return False
        answer = self._given.get(blob_id)
        if answer is None:
            answer = self._given[blob_id] = asyncio.get_running_loop().create_future()
            try:
                await self._lay_down(blob_id, size_bytes, write)
            except BaseException:
                # Who waits for the same blob sends it otherwise.
                self._settle_given(blob_id, is_stored=False)
                raise
        return await asyncio.shield(answer)

    async def _lay_down(self, blob_id: BlobId, size_bytes: int, write: Write | LaidFile) -> None:
        folder = self._folder
        assert folder is not None, "looked at by the caller"
        if isinstance(write, LaidFile):
            if (name := write.take(folder)) is not None:
                self._send(BlobOffer(blob_id=blob_id, size_bytes=size_bytes, file=name))
                return
            write = bytes_into(write.data)  # It was for a session that is over.
        name = secrets.token_hex(16)
        # A link is made sooner than a thread is told to make it.
        if not isinstance(write, SameFile) or not write.link(folder / name):
            least = self._free_bytes_min
            try:
                await asyncio.to_thread(_write, folder / name, size_bytes, least, write)
            except OSError as error:
                logger.info("a blob goes over the connection", extra={"why": str(error)})
                self._settle_given(blob_id, is_stored=False)
                return
        if self._folder == folder:
            self._send(BlobOffer(blob_id=blob_id, size_bytes=size_bytes, file=name))
        else:
            (folder / name).unlink(missing_ok=True)
            self._settle_given(blob_id, is_stored=False)

    def told(self, blob_id: BlobId) -> Path | None:
        """Say where a blob lies, once, if the coordinator said so before anybody asked.

        The file may be gone a moment later, as with `find`.
        """
        return self._told.pop(blob_id, None)

    async def find(self, blob_id: BlobId, size_bytes: int | None) -> Path | None:
        """Say where the coordinator has a blob; None if it must come over the connection.

        The file may be gone a moment later: link or open it at once, and never write to it.
        """
        if size_bytes is not None and size_bytes < FILE_BYTES_MIN:
            return None
        await self._is_known.wait()
        if self._folder is None:
            return None
        if (told := self.told(blob_id)) is not None:
            return told
        answer = self._wanted.get(blob_id)
        if answer is None:
            answer = self._wanted[blob_id] = asyncio.get_running_loop().create_future()
            self._send(FetchBlob(blob_id=blob_id, as_file=True))
        return await asyncio.shield(answer)

    # --- the connection ---

    def on_connected(self, features: Iterable[str]) -> None:
        """The coordinator has accepted us, and said what it can do."""
        self._boot_id = boot_id()
        if FEATURE in features and self._boot_id:
            self._is_known.clear()
            self._send(SameHost(boot_id=self._boot_id))

    def on_disconnected(self) -> None:
        """Whatever waits goes another way."""
        if self.is_open:
            self._folder = None
            self._on_change(False)
        self._is_known.set()
        self._told.clear()
        for blob_id in tuple(self._given):
            self._settle_given(blob_id, is_stored=False)
        for blob_id in tuple(self._wanted):
            self._settle_wanted(blob_id, None)

    def on_message(self, message: FromCoordinator) -> None:
        """Take in what the coordinator said; what is not about files is ignored."""
        match message:
            case SameHostFolder():
                self._on_folder(message)
            case BlobHere(blob_id=blob_id, path=path):
                self._on_path(BlobId(blob_id), Path(path))
            case BlobMissing(blob_id=blob_id):
                self._settle_wanted(BlobId(blob_id), None)
            case BlobStatus(blob_id=blob_id, is_complete=True):
                self._settle_given(BlobId(blob_id), is_stored=True)
            case BlobStatus():
                pass
            case BlobRefused(blob_id=blob_id):
                self._settle_given(BlobId(blob_id), is_stored=False)

    def _on_folder(self, answer: SameHostFolder) -> None:
        if answer.folder is not None and not answer.is_proven:
            secret = _secret_in(Path(answer.folder))
            if secret is not None:
                self._send(SameHost(boot_id=self._boot_id, secret=secret))
                return
            logger.debug("another container, or another user", extra={"folder": answer.folder})
        elif answer.folder is not None:
            self._folder, self._free_bytes_min = Path(answer.folder), answer.free_bytes_min
            logger.debug("the coordinator is on this machine", extra={"folder": answer.folder})
            self._on_change(True)
        self._is_known.set()

    def _on_path(self, blob_id: BlobId, path: Path) -> None:
        if blob_id in self._wanted:
            self._settle_wanted(blob_id, path)
            return
        if len(self._told) >= _TOLD_MAX:
            del self._told[next(iter(self._told))]
        self._told[blob_id] = path

    def _settle_given(self, blob_id: BlobId, *, is_stored: bool) -> None:
        answer = self._given.pop(blob_id, None)
        if answer is not None and not answer.done():
            answer.set_result(is_stored)

    def _settle_wanted(self, blob_id: BlobId, path: Path | None) -> None:
        answer = self._wanted.pop(blob_id, None)
        if answer is not None and not answer.done():
            answer.set_result(path)


def _secret_in(folder: Path) -> str | None:
    try:
        # What another user lays down is not taken: its owner could go on writing to it.
        if folder.stat().st_uid != os.geteuid():
            return None
        with (folder / SECRET_FILE).open() as file:
            secret = file.read(_SECRET_CHARACTERS)
    except (OSError, ValueError):
        return None
    return secret if len(secret) == _SECRET_CHARACTERS else None


def _write(path: Path, size_bytes: int, free_bytes_min: int, write: Write) -> None:
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize - size_bytes < free_bytes_min:
        raise OSError(f"no room for {size_bytes} bytes in {path.parent}")
    try:
        write(path)
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def bytes_into(data: BytesLike) -> Write:
    """Make what writes these bytes to a new file."""

    def write(path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
            rest = memoryview(data).cast("B")
            while rest.nbytes:
                rest = rest[file.write(rest) or 0 :]

    return write


@value()
class SameFile:
    """Puts a file somewhere else too: by a link if it can be, else by a copy."""

    source: Path

    def __call__(self, path: Path) -> None:
        """Put it there.

        Raises:
            OSError: It cannot be.
        """
        if not self.link(path):
            shutil.copyfile(self.source, path)

    def link(self, path: Path) -> bool:
        """Link it there, and tell whether that could be done; waits for no disk."""
        try:
            path.hardlink_to(self.source)
        except OSError:
            return False
        return True


def link_or_copy(source: Path, target: Path) -> bool:
    """Put a file somewhere else too; False if that is not possible, and nothing is there."""
    try:
        SameFile(source)(target)
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        return False
    return True
