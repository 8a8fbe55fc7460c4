"""How a job's progress, metrics and files reach the worker daemon: lines appended to one file.

A line is compact JSON, written with one `write(2)` to a file opened for appending, so threads and
child processes of a job may write at the same time, nobody waits for a network, and what was
written survives the death of the job and of the daemon. `NaN` and infinities are written as the
literals that Python's json reads back.

Imported by `lineshaft.run` in user code: it must load in a few milliseconds.
"""

import json
import os
import time
from collections.abc import Callable, Mapping

LINE_BYTES_MAX = 64 * 1024
ENVIRONMENT_VARIABLE = "LINESHAFT_SPOOL"
"""Names the spool of the running job; children of the job inherit it."""

KINDS = ("progress", "metrics", "checkpoint", "artifact", "notice")


class SpoolWriter:
    """Appends to the spool of this process, and never raises: a job must not fail for its logs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._seq = 0
        self._dropped = 0
        self._is_torn = False

    def write(self, kind: str, body: Mapping[str, object]) -> None:
        """Append one event; if that fails it is counted, and the next line says how many."""
        self._seq += 1
        line = self._line(kind, body)
        if line is None:
            self._dropped += 1
            return
        if self._dropped or self._is_torn:
            line = self._catch_up() + line
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            written = os.write(self._descriptor, line)
        except OSError:
            self._dropped += 1
            return
        if written < len(line):  # The disk filled up in the middle.
            self._is_torn = True
            self._dropped += 1
        else:
            self._is_torn = False
            self._dropped = 0

    def _line(self, kind: str, body: Mapping[str, object]) -> bytes | None:
        record = {"k": kind, "n": self._seq, "t": time.time(), "m": time.monotonic(), "b": body}
        try:
            line = _ENCODER.encode(record).encode() + b"\n"
        except Exception:  # noqa: BLE001 - objects of the user's are asked for their text
            return None
        return line if len(line) <= LINE_BYTES_MAX else None

    def _catch_up(self) -> bytes:
        """End a torn line, and say how many events are missing."""
        body = {"code": "events_dropped", "text": f"{self._dropped} events could not be written"}
        notice = self._line("notice", body) if self._dropped else None
        return (b"\n" if self._is_torn else b"") + (notice or b"")


class SpoolRecord:
    """One line, read back."""

    __slots__ = ("at", "body", "kind", "monotonic", "seq")

    def __init__(self, kind: str, seq: int, times: tuple[float, float], body: dict[str, object]):
        self.kind = kind
        self.seq = seq
        """Counts the events of the writing process, those that it could not write included."""
        self.at, self.monotonic = times
        self.body = body


def parse_line(line: bytes) -> SpoolRecord | None:
    """Return what a line says; None if it is no whole line of ours."""
    try:
        record = json.loads(line)
        # The annotations say what is checked right after.
        kind: str = record["k"]
        seq: int = record["n"]
        at: float = record["t"]
        monotonic: float = record["m"]
        body: dict[str, object] = record["b"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    fields = (kind, seq, at, monotonic, body)
    if not all(map(isinstance, fields, (str, int, float, float, dict))) or kind not in KINDS:
        return None
    return SpoolRecord(kind, seq, (at, monotonic), body)


class JobContext:
    """What `lineshaft.run` knows of the attempt that this process executes."""

    __slots__ = ("input_data", "kept_folder", "params", "pause_file", "set_result", "spool")

    def __init__(
        self,
        spool: SpoolWriter | None,
        *,
        params: Mapping[str, object] | None = None,
        input_data: Callable[[], object] | None = None,
        set_result: Callable[[object], None] | None = None,
        files: tuple[str, str] | None = None,
    ) -> None:
        self.spool = spool
        self.params: Mapping[str, object] = params or {}
        self.input_data = input_data
        self.set_result = set_result
        self.kept_folder: str | None = files[0] if files else None
        self.pause_file: str | None = files[1] if files else None


class _Place:
    # One process executes one attempt at a time, and any thread of the user's code may report on
    # it: a context variable would be empty in threads, so this is one place per process.
    context: JobContext | None = None


def attach(context: JobContext | None) -> None:
    """Say which attempt this process executes from now on."""
    _Place.context = context


def current() -> JobContext:
    """Return the attempt this process belongs to: attached, named by the environment, or none."""
    context = _Place.context
    if context is None:
        path = os.environ.get(ENVIRONMENT_VARIABLE)
        context = _Place.context = JobContext(SpoolWriter(path) if path else None)
    return context


def _plain(value: object) -> object:
    """Return a number or a text for what json does not know: array scalars, tensors, paths."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    return str(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_plain, check_circular=False)
