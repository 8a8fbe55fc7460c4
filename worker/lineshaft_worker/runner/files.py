"""Names of the files in a runner's folder, and the record of what it is executing.

Daemon, shim and runner meet here; this module is imported by every runner and stays small.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Callable

SPOOL = "spool"
STDOUT = "stdout.log"
STDERR = "stderr.log"
CURRENT = "current"
STREAMS = (SPOOL, STDOUT, STDERR)
"""Files that grow while an attempt runs, in the order of `frames.Ends`."""

PROCESSES_VARIABLE = "LINESHAFT_PROCESSES"
"""How many processes a pipeline job runs in; not there if it runs in the runner itself."""
DESCRIPTION = "runner.json"
HANDED_OVER = "handed-over"
"""Beside the folder of all runners, while results are handed over as files of this machine."""
SHIM_PID = "shim.pid"
CURRENT_BYTES = 4096
_LENGTH = struct.Struct("<I")
LEASE = struct.Struct("<dd")
"""At the end of the page, for the shim: the attempt's lease and grace in seconds; 0 for none."""


def attempt_file(folder: str, ticket: int, suffix: str) -> str:
    """Return the path of a file that belongs to one attempt.

    The suffixes are: code, payload, result, ended (a Done frame), tail (how far its events were
    reported), first (count of events told before it began), pause (a request), saved (a child of
    the job saved after it), resume (where a
    checkpoint lies), resumed (the checkpoint, brought back), work (folder of a pipeline), blobs
    (folder of blobs that its files are made of), kept (folder of its artifacts), rank0 (what the
    first of its processes returned), rankN.failed (why another ended, if it could say), and
    child-N (what a plan sends to, or gets from, elsewhere).
    """
    return f"{folder}/a{ticket}.{suffix}"


class Current:
    """What the runner is executing, in memory that outlives it (a shared page of a file).

    Whoever comes after a crash of the runner, the daemon or both finds here which attempt it was.
    The length is written last and cleared first, so a record is whole or absent.
    """

    def __init__(self, folder: str) -> None:
        descriptor = os.open(f"{folder}/{CURRENT}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Room for all of it now: on a full disk to write to the page would be a SIGBUS.
            os.posix_fallocate(descriptor, 0, CURRENT_BYTES)
            self._page = mmap.mmap(descriptor, CURRENT_BYTES)
        finally:
            os.close(descriptor)

    def begin(self, record: bytes, lease_s: float = 0.0, grace_s: float = 0.0) -> None:
        """Say what starts now. The record must fit in the page."""
        page = self._page
        page[-LEASE.size :] = LEASE.pack(lease_s, grace_s)
        page[4 : 4 + len(record)] = record
        page[:4] = _LENGTH.pack(len(record))

    def end(self) -> None:
        """Say that nothing is being executed."""
        self._page[:4] = b"\0\0\0\0"


def read_current(folder: str) -> bytes | None:
    """Return the record of what is (or was, at its death) being executed by a runner."""
    try:
        with open(f"{folder}/{CURRENT}", "rb") as file:  # noqa: PTH123 - no pathlib in a runner
            page = file.read(CURRENT_BYTES)
    except FileNotFoundError:
        return None
    if len(page) < 4:
        return None
    (length,) = _LENGTH.unpack_from(page)
    return page[4 : 4 + length] if 0 < length <= CURRENT_BYTES - 4 - LEASE.size else None


def tell_runners(execution: str | os.PathLike[str], *, are_handed_over: bool) -> None:
    """Tell all runners whether results are handed over: then who takes one syncs it at once.

    A hint that may be old; whatever it says, nobody relies on it for what is on the disk.
    """
    mark = f"{os.fspath(execution)}/{HANDED_OVER}"
    with contextlib.suppress(OSError):  # A full disk: then a sync takes a little longer.
        if are_handed_over:
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        else:
            os.unlink(mark)  # noqa: PTH108 - no pathlib in a runner


def is_handed_over(folder: str) -> bool:
    """Say whether results are handed over, for a runner in its folder."""
    return os.path.exists(f"{folder}/../../{HANDED_OVER}")  # noqa: PTH110 - no pathlib in a runner


def write_whole(path: str, data: bytes) -> None:
    """Write a small file so that a reader sees all of it or none."""
    partial = f"{path}.part"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(partial, path)  # noqa: PTH105 - no pathlib in a runner


def save_end(folder: str, ticket: int, data: bytes, sync: Callable[[int], None] = os.fsync) -> None:
    """Write an attempt's end so that it outlives a loss of power, with all that it tells of.

    Its name appears only when the rest is on the disk: output, events and how far they were
    handed out, the result, and what tells of which boot the runner was.

    Args:
        folder: The runner's.
        ticket: The attempt's.
        data: Its Done frame.
        sync: What brings a file to the disk.

    Raises:
        OSError: The disk refused, or the folder is gone.
    """
    mine = f"a{ticket}."
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    for name in names:
        if name.startswith(mine) or name in (*STREAMS, DESCRIPTION, SHIM_PID):
            _sync_path(f"{folder}/{name}", sync)
    draft = attempt_file(folder, ticket, f"ended.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        sync(descriptor)
    os.replace(draft, attempt_file(folder, ticket, "ended"))  # noqa: PTH105 - no pathlib in a runner
    _sync_path(folder, sync)
    _sync_path(f"{folder}/..", sync)


def _sync_path(path: str, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
