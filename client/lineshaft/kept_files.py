"""Checkpoints and artifacts of a job, and bringing them here."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path

from pydantic import JsonValue, ValidationError

from lineshaft.errors import FileNotKeptError
from lineshaft.loop_thread import HeldThread
from lineshaft.shell import Shell
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.kept_files import KeptFile as Record
from lineshaft_protocol.values import value
from lineshaft_runtime.bundles import BundleError, check_paths
from lineshaft_runtime.transfers import BlobDamagedError, Digest

PIECE_BYTES = 1 << 20
Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there are."""


@value()
class AsyncKeptFile:
    """A file or folder that a job left with the coordinator."""

    record: Record
    shell: Shell

    @property
    def name(self) -> str:
        """What the job called it: a relative path with `/`."""
        return self.record.name

    @property
    def kind(self) -> str:
        """`"checkpoint"` or `"artifact"`."""
        return self.record.kind

    @property
    def step(self) -> int | None:
        """How far the job was, for a checkpoint that says so."""
        return self.record.step

    @property
    def attempt(self) -> int:
        """The attempt that made it."""
        return self.record.attempt

    @property
    def size_bytes(self) -> int:
        """Its length; of a folder, that of its archive."""
        return self.record.size_bytes

    @property
    def sha256(self) -> str | None:
        """Of its content; None if it could not be stored, and `problem` says why."""
        return self.record.blob

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, which is stored as a tar archive."""
        return self.record.is_folder

    @property
    def metadata(self) -> Mapping[str, JsonValue]:
        """What the job remembered with a checkpoint."""
        return self.record.metadata or {}

    @property
    def problem(self) -> str | None:
        """Why it could not be stored."""
        return self.record.problem

    async def download(
        self, path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> Path:
        """Write it to a file, or to a folder if it is one.

        What an earlier call brought here is not fetched again, whether it was interrupted or not.
        The content is checked before anything is at `path`, where a file is replaced, and a folder
        must not exist or be the same.

        Args:
            path: Where to; its own name in the current folder if None.
            progress: Called now and then with the bytes that are here, and all there are.

        Raises:
            FileNotKeptError: It could not be stored, or its name may not be used here.
            BlobMissingError: The coordinator has it no more.
            BlobDamagedError: Something else arrived.
            OSError: It cannot be written.
        """
        target = Path(path) if path is not None else Path(self.safe_name())
        digest, size_bytes = self.record.blob, self.record.size_bytes
        if digest is None:
            raise FileNotKeptError(self.name, self.problem or "it could not be stored")
        if await asyncio.to_thread(self._is_here, target, digest):
            if progress is not None:
                progress(size_bytes, size_bytes)
            return target
        if target.is_dir():
            raise FileExistsError(f"there is another folder {target}; choose another place")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Named by its content: a part of another file is never gone on with.
        part = target.parent / f".{target.name[:100]}.{digest[:16]}.part"
        await self._fetch(part, BlobId(digest), size_bytes, progress)
        if self.is_folder:
            from lineshaft_runtime.kept import unpack_folder  # noqa: PLC0415 - few keep folders

            await asyncio.to_thread(unpack_folder, part, target)
            part.unlink()
        else:
            part.replace(target)
        return target

    def _is_here(self, target: Path, digest: str) -> bool:
        """Say whether the same was brought to that place before; reads all of it."""
        if self.is_folder and target.is_dir():
            from lineshaft_runtime.kept import hash_of_folder  # noqa: PLC0415 - as above

            return hash_of_folder(target) == digest
        if self.is_folder or not target.is_file() or target.stat().st_size != self.size_bytes:
            return False
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest

    async def _fetch(
        self, part: Path, digest: BlobId, size_bytes: int, progress: Progress | None
    ) -> None:
        known = await asyncio.to_thread(_hash_of, part, size_bytes)
        with _opened(part, known.size_bytes) as file:

            def sink(offset: int, piece: bytes | memoryview) -> None:
                file.seek(offset)
                view = memoryview(piece)
                while view.nbytes:
                    view = view[file.write(view) or 0 :]
                if progress is not None:
                    progress(offset + len(piece), size_bytes)

            if progress is not None:
                progress(known.size_bytes, size_bytes)
            try:
                await self.shell.transfers.download(
                    digest, sink, size_bytes, begun=(known.size_bytes, known.digest)
                )
            except BlobDamagedError:
                await asyncio.to_thread(part.unlink, missing_ok=True)
                raise

    def safe_name(self) -> str:
        """Return its name, which may be used for a file beneath a folder of this machine.

        Raises:
            FileNotKeptError: It leads elsewhere, or means different things on different systems.
        """
        try:
            check_paths([self.name])
        except BundleError as error:
            raise FileNotKeptError(self.name, f"its name may not be used: {error}") from error
        return self.name


@value()
class KeptFile:
    """The same, for a program without an event loop."""

    file: AsyncKeptFile
    thread: HeldThread

    @property
    def name(self) -> str:
        """What the job called it: a relative path with `/`."""
        return self.file.name

    @property
    def step(self) -> int | None:
        """How far the job was, for a checkpoint that says so."""
        return self.file.step

    @property
    def attempt(self) -> int:
        """The attempt that made it."""
        return self.file.attempt

    @property
    def size_bytes(self) -> int:
        """Its length; of a folder, that of its archive."""
        return self.file.size_bytes

    @property
    def sha256(self) -> str | None:
        """Of its content; None if it could not be stored, and `problem` says why."""
        return self.file.sha256

    @property
    def metadata(self) -> Mapping[str, JsonValue]:
        """What the job remembered with a checkpoint."""
        return self.file.metadata

    @property
    def problem(self) -> str | None:
        """Why it could not be stored."""
        return self.file.problem

    def download(
        self, path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> Path:
        """Write it to a file, or to a folder if it is one; see `AsyncKeptFile.download`.

        Raises:
            LineshaftError: It was not stored, is gone, or something else arrived.
            OSError: It cannot be written.
        """
        return self.thread.run(self.file.download(path, progress=progress))


def files_of(shell: Shell, answer: JsonValue, kind: str) -> list[AsyncKeptFile]:
    """Return the files of a kind in the coordinator's answer."""
    found: list[AsyncKeptFile] = []
    for item in answer if isinstance(answer, list) else []:
        with contextlib.suppress(ValidationError):  # One of a later version, which we cannot read.
            record = Record.model_validate(item)
            if record.kind == kind:
                found.append(AsyncKeptFile(record, shell))
    return found


@value()
class _Begun:
    size_bytes: int
    digest: Digest


def _hash_of(part: Path, size_bytes: int) -> _Begun:
    """Hash what is here already, in pieces."""
    digest, done = hashlib.sha256(), 0
    if part.exists() and part.stat().st_size <= size_bytes:
        with part.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                done += len(piece)
    return _Begun(done, digest)


def _opened(part: Path, size_bytes: int) -> FileIO:
    file = FileIO(part, "r+b" if part.exists() else "wb")
    file.truncate(size_bytes)
    return file
