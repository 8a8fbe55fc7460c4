"""Files that jobs leave: taken out of their folders, stored with the coordinator, put on record.

Theory. A file is ours once its note is on the disk: a line of JSON that says what it is and where
it lies. Then it is moved out of the runner's folder, so that the end of the attempt does not take
it away; packed, if it is a folder; hashed and uploaded, both in pieces; and told to the core,
which tells the coordinator until that has it on record. Only then the note goes. Each step can be
done again: a daemon that finds notes goes on where the one before stopped.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import BlobId, JobId
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_runtime.bundles import BundleError, check_paths
from lineshaft_runtime.durable import sync_path
from lineshaft_runtime.kept import pack_folder, spelled
from lineshaft_worker.core.io import AttemptKey, FileStored
from lineshaft_worker.execution.reports import AttemptEvents
from lineshaft_worker.execution.shim import boot_id

logger = logging.getLogger(__name__)

WAITING_MAX = 3
"""Checkpoints of an attempt that wait for their upload; older ones are given up for newer ones."""
METADATA_BYTES_MAX = 16 * 1024
OUTPUT_FILES_MAX = 1000
"""Most files taken from a job's folder of outputs."""

Store = Callable[[Path, BlobId], Coroutine[None, None, Payload]]


@dataclass(slots=True)
class _Shelf:
    """What is kept of one attempt."""

    waiting: list[KeptFile] = field(default_factory=list[KeptFile])
    outputs: Path | None = None
    task: asyncio.Task[None] | None = None


class Keeper:
    """Keeps files until the coordinator has them.

    Args:
        folder: Of this daemon alone, on the disk where runners have their folders.
        store: Uploads a file whose hash is known.
        post: Gives the core an event.
    """

    def __init__(self, folder: Path, store: Store, post: Callable[[FileStored], None]) -> None:
        self._folder, self._store, self._post = folder, store, post
        self._boot_id = boot_id()
        self._shelves: dict[AttemptKey, _Shelf] = {}
        self._placed: dict[AttemptKey, None] = {}
        """Attempts that have a folder here; most have none, and looking for it costs 15 µs."""
        self._hashing = asyncio.Semaphore(2)
        self._has_taken_over = False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def take_over(self) -> None:
        """Go on with what the daemon before us kept, and with what was taken since the start."""
        self._has_taken_over = True
        for place in sorted(self._folder.iterdir()):
            job_id, _, number = place.name.rpartition("@")
            if not number.isdecimal():
                continue
            key = AttemptKey(JobId(job_id), int(number))
            self._placed[key] = None
            for note in sorted(place.glob("*.json")):
                with contextlib.suppress(OSError, ValidationError, ValueError):
                    self._resume(key, json.loads(note.read_bytes()))
            if (place / "outputs").is_dir():
                self._shelf(key).outputs = place / "outputs"
            if key in self._shelves:
                self._work(key)

    def _resume(self, key: AttemptKey, note: dict[str, object]) -> None:
        file = KeptFile.model_validate(note["file"])
        if file.blob is not None or file.problem is not None:
            self._post(FileStored(key, file))
            return
        if note.get("boot_id", "") not in ("", self._boot_id):
            # What it has on this disk may be a part of it, and nothing would show that.
            lost = "the machine went down before it was on the disk"
            self._post(FileStored(key, file.model_copy(update={"problem": lost})))
            return
        source, data = Path(str(note["source"])), self._data(key, file)
        if not data.exists() and source.exists():
            source.rename(data)
        self._shelf(key).waiting.append(file)

    def take(self, spoke: AttemptEvents, folder: Path | None) -> None:
        """Take what an attempt's events say that it keeps.

        Args:
            spoke: Events in which it says so, among others.
            folder: Where the copies of this attempt must lie; nothing is taken from elsewhere.
        """
        key = AttemptKey(JobId(spoke.key.job_id), spoke.key.attempt)
        for seq, at, kind, body in spoke.events:
            if kind in ("checkpoint", "artifact"):
                self._take(key, folder, f"{key.attempt}.{seq}", (kind, at, body))

    def _take(
        self,
        key: AttemptKey,
        folder: Path | None,
        file_id: str,
        said: tuple[str, float, Mapping[str, object]],
    ) -> None:
        kind, at, body = said
        if self._note(key, file_id).exists():
            return  # A daemon before us took it.
        source = Path(str(body.get("kept", "")))
        facts = {"file_id": file_id, "kind": kind, "attempt": key.attempt, "at": at}
        name = spelled(str(body.get("name") or source.name))
        problem = _problem_of(source, folder, name)
        if problem is None and not source.exists():
            return  # It was taken, stored and put on record.
        metadata = body.get("metadata")
        if not isinstance(metadata, dict):
            metadata = None  # Written by something else than `lineshaft.run`.
        elif len(json.dumps(metadata, default=str)) > METADATA_BYTES_MAX:
            metadata = {"left_out": f"it has more than {METADATA_BYTES_MAX} bytes"}
        step = body.get("step")
        file = KeptFile.model_validate(
            facts
            | {
                "name": name[:1024] or "unnamed",
                "is_folder": problem is None and source.is_dir(),
                "step": step if isinstance(step, int) and abs(step) <= 2**53 else None,
                "metadata": metadata or None,
                "problem": problem,
            }
        )
        try:
            self._write_note(key, file, source)
            if problem is None:
                source.rename(self._data(key, file))
        except OSError as error:
            file = file.model_copy(update={"problem": f"the worker could not keep it: {error}"})
        if file.problem is not None:
            self._post(FileStored(key, file))
        else:
            self._enter(key, file)

    def _enter(self, key: AttemptKey, file: KeptFile) -> None:
        if not self._has_taken_over:
            return  # Its note is on the disk, and will be found there.
        shelf = self._shelf(key)
        shelf.waiting.append(file)
        checkpoints = [each for each in shelf.waiting if each.kind == "checkpoint"]
        if file.kind == "checkpoint" and len(checkpoints) > WAITING_MAX:
            # The network is slower than the job saves: the newest are worth the most.
            shelf.waiting.remove(checkpoints[0])
            self._discard(key, checkpoints[0])
        self._work(key)

    def take_outputs(self, key: AttemptKey, outputs: Path) -> None:
        """Take the folder of outputs of a job that has ended."""
        try:
            place = self._make_place(key)
            outputs.rename(place / "outputs")
        except OSError as error:
            logger.warning("outputs are lost", extra={"job": key.job_id, "why": str(error)})
            return
        if self._has_taken_over:
            self._shelf(key).outputs = place / "outputs"
            self._work(key)

    def is_busy(self, key: AttemptKey) -> bool:
        """Whether files of the attempt are not stored yet."""
        if not self._has_taken_over:
            # An end that is found at the start must not be settled over its files.
            return self._place(key).is_dir()
        shelf = self._shelves.get(key)
        return shelf is not None and shelf.task is not None

    async def drained(self, key: AttemptKey) -> None:
        """Wait until all files of an attempt are stored, or refused, or abandoned."""
        while (shelf := self._shelves.get(key)) is not None and shelf.task is not None:
            await asyncio.wait([shelf.task])

    def abandon(self, key: AttemptKey) -> None:
        """Nobody wants what is not stored yet."""
        shelf = self._shelves.pop(key, None)
        if shelf is not None and shelf.task is not None:
            shelf.task.cancel()

    def forget_file(self, key: AttemptKey, file_id: str) -> None:
        """The coordinator has it on record."""
        self._note(key, file_id).unlink(missing_ok=True)

    def forget(self, key: AttemptKey) -> None:
        """The attempt is settled: nothing of it is needed here."""
        self.abandon(key)
        if key in self._placed:
            del self._placed[key]
            shutil.rmtree(self._place(key), ignore_errors=True)

    def close(self) -> None:
        """Stop; the next daemon goes on."""
        for shelf in self._shelves.values():
            if shelf.task is not None:
                shelf.task.cancel()

    # --- inside ---

    def _shelf(self, key: AttemptKey) -> _Shelf:
        return self._shelves.setdefault(key, _Shelf())

    def _place(self, key: AttemptKey) -> Path:
        return self._folder / f"{key.job_id}@{key.attempt}"

    def _make_place(self, key: AttemptKey) -> Path:
        place = self._place(key)
        place.mkdir(mode=0o700, exist_ok=True)
        self._placed[key] = None
        return place

    def _note(self, key: AttemptKey, file_id: str) -> Path:
        return self._place(key) / f"{file_id}.json"

    def _data(self, key: AttemptKey, file: KeptFile) -> Path:
        return self._place(key) / f"{file.file_id}.data"

    def _write_note(
        self, key: AttemptKey, file: KeptFile, source: Path | None = None, *, is_safe: bool = False
    ) -> None:
        """Note what is kept; if its data are on the disk, so that both outlive a loss of power."""
        place = self._make_place(key)
        note = self._note(key, file.file_id)
        draft = note.with_suffix(".part")
        boot = "" if is_safe else self._boot_id
        words = {"file": file.model_dump(), "source": str(source or ""), "boot_id": boot}
        draft.write_text(json.dumps(words))
        if is_safe:
            sync_path(draft)
        draft.replace(note)
        if is_safe:
            for folder in (place, self._folder):
                sync_path(folder)

    def _discard(self, key: AttemptKey, file: KeptFile) -> None:
        self._note(key, file.file_id).unlink(missing_ok=True)
        _remove(self._data(key, file))

    def _work(self, key: AttemptKey) -> None:
        shelf = self._shelf(key)
        if shelf.task is None:
            shelf.task = asyncio.create_task(self._store_all(key, shelf))

    async def _store_all(self, key: AttemptKey, shelf: _Shelf) -> None:
        try:
            while shelf.waiting or shelf.outputs is not None:
                if shelf.waiting:
                    await self._store_one(key, shelf.waiting.pop(0))
                elif (outputs := shelf.outputs) is not None:
                    shelf.outputs = None
                    shelf.waiting += await asyncio.to_thread(self._list_outputs, key, outputs)
        finally:
            shelf.task = None
            if self._shelves.get(key) is shelf:
                del self._shelves[key]

    async def _store_one(self, key: AttemptKey, file: KeptFile) -> None:
        if file.problem is not None:
            self._post(FileStored(key, file))
            return
        data = self._data(key, file)
        try:
            async with self._hashing:
                path, digest, size_bytes = await asyncio.to_thread(_packed, data, file.is_folder)
                await asyncio.to_thread(self._write_note, key, file, is_safe=True)
            await self._store(path, digest)
            stored = file.model_copy(update={"blob": digest, "size_bytes": size_bytes})
        except (LineshaftError, OSError) as error:
            stored = file.model_copy(update={"problem": f"it could not be stored: {error}"})
        with contextlib.suppress(OSError):  # Then a daemon after us stores it once more.
            await asyncio.to_thread(self._write_note, key, stored, is_safe=True)
            await asyncio.to_thread(_remove, data)
        self._post(FileStored(key, stored))

    def _list_outputs(self, key: AttemptKey, outputs: Path) -> list[KeptFile]:
        found: list[KeptFile] = []
        paths = [each for each in sorted(outputs.rglob("*")) if _is_plain(each)]
        for path in paths[:OUTPUT_FILES_MAX]:
            told = str(path.relative_to(outputs))
            number = hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:16]
            name = spelled(told)
            problem = _problem_of_name(name)
            file = KeptFile(
                file_id=f"{key.attempt}.o{number}",
                kind="artifact",
                name=name if problem is None else f"unnamed-{number}",
                attempt=key.attempt,
                at=path.stat().st_mtime,
            )
            try:
                self._write_note(key, file, path)
                path.rename(self._data(key, file))
            except OSError as error:
                text = f"the worker could not keep it: {error}"
                file = file.model_copy(update={"problem": text})
            found.append(file)
        if surplus := len(paths[OUTPUT_FILES_MAX:]):
            found.append(_left_out(key, surplus, outputs.stat().st_mtime))
        shutil.rmtree(outputs, ignore_errors=True)
        return found


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _left_out(key: AttemptKey, count: int, at: float) -> KeptFile:
    """Return what tells of outputs that were too many."""
    return KeptFile(
        file_id=f"{key.attempt}.others",
        kind="artifact",
        name="outputs",
        attempt=key.attempt,
        at=at,
        problem=f"{count} more files were left out: {OUTPUT_FILES_MAX} of them are kept at most; "
        "pack many into one",
    )


def _problem_of(source: Path, folder: Path | None, name: str) -> str | None:
    """Say why a file may not be taken: the job says where it lies, and may say anything."""
    try:
        if folder is None or source.parent.parent != folder or source.parent.is_symlink():
            return "it was saved by another process than the job's own"
        if ".." in source.parts or source.is_symlink():
            return "it is a link, or does not lie in the job's folder"
    except OSError as error:  # Its name is too long, as one that nobody saved may be.
        return f"it cannot be looked at: {error.strerror}"
    return _problem_of_name(name)


def _problem_of_name(name: str) -> str | None:
    try:
        check_paths([name])
    except BundleError as error:
        return f"its name is not possible: {error.reason}"
    return None


def _packed(data: Path, is_folder: bool) -> tuple[Path, BlobId, int]:
    """Make one file of it, if it is none, and hash that."""
    if is_folder and data.is_dir():
        archive = data.with_suffix(".tar")
        pack_folder(data, archive)
        shutil.rmtree(data)
        archive.replace(data)
    with data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    sync_path(data)
    return data, BlobId(digest), data.stat().st_size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def said_not_kept(spoke: AttemptEvents) -> str | None:
    """Return why a file could not be saved, if that is among an attempt's events."""
    for _, _, kind, body in spoke.events:
        if kind == "notice" and body.get("code") == "not_kept":
            return cast("str", body.get("text", "a file could not be kept"))
    return None
