"""Makes events of what an attempt wrote: its lines in the spool, its output.

Theory. Three files of a runner grow; an attempt owns a part of each, from where they ended when it
began. Reading goes in batches, and a batch is a function of where it starts and where it ends.
Before a batch is handed out, start, end and first number are written to the attempt's `tail` file:
a daemon that comes after a crash makes the same batch again, with the same numbers, and whoever
has seen them already can leave them out. So nothing is lost and nothing counted twice.
"""

import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from lineshaft_runtime.spool import parse_line
from lineshaft_worker.execution.reports import EventKind
from lineshaft_worker.runner.files import STREAMS, attempt_file

BATCH_BYTES_MAX = 256 * 1024
"""Of each stream, so that a flood in one job does not hold up the daemon."""
OUTPUT_BYTES_MAX = 256 * 2**20
BACKLOG_BYTES_MAX = 256 * 2**20
"""A spool that runs this far ahead of us is cut, with a notice."""
LAST_LINES_MAX = 20
_LAST_BYTES = 8192
_RECORD = struct.Struct("<8Q")
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_LOG_STREAMS = ((1, "stdout"), (2, "stderr"))

Event = tuple[int, float, EventKind, Mapping[str, object]]


class Streams:
    """The files of one runner that grow."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptors = [os.open(folder / name, flags, 0o600) for name in STREAMS]

    def sizes(self) -> list[int]:
        """Return how long the files are now."""
        return [os.fstat(descriptor).st_size for descriptor in self._descriptors]

    def read(self, stream: int, start: int, end: int) -> bytes:
        """Return a part of one file."""
        return os.pread(self._descriptors[stream], max(end - start, 0), start)

    def give_back(self, stream: int, start: int, end: int) -> None:
        """Let the file system reuse the blocks of a part; lengths and places stay."""
        if end > start:
            # What the file system cannot do is left: then the space comes back with the folder.
            ctypes.CDLL(None).fallocate(
                self._descriptors[stream],
                _PUNCH_HOLE,
                ctypes.c_longlong(start),
                ctypes.c_longlong(end - start),
            )

    def last_lines(self, begins: list[int], ends: list[int]) -> tuple[str, ...]:
        """Return the end of what was written to stderr; of stdout if that is empty."""
        for stream in (2, 1):
            start = max(begins[stream], ends[stream] - _LAST_BYTES)
            text = self.read(stream, start, ends[stream]).decode(errors="replace")
            lines = [line.rstrip() for line in text.splitlines() if line.strip()]
            if lines:
                return tuple(lines[-LAST_LINES_MAX:])
        return ()

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


class Tail:
    """How far one attempt's events have been handed out."""

    def __init__(
        self, folder: Path, ticket: int, begins: list[int], *, output_bytes_max: int
    ) -> None:
        self._path = attempt_file(str(folder), ticket, "tail")
        self._output_bytes_max = output_bytes_max
        self._places = list(begins)
        self._seq = 1
        self._logged = 0
        self._repeat_to: list[int] | None = None
        self._restore()

    def read(self, streams: Streams, ends: list[int], *, is_final: bool = False) -> list[Event]:
        """Make the next batch of events; empty when there is nothing new.

        Args:
            streams: Where to read.
            ends: Up to where the attempt's part goes.
            is_final: Nothing will follow: what looks incomplete stays so.
        """
        repeat, self._repeat_to = self._repeat_to, None
        if repeat is not None:
            ends, is_final = repeat, True
        if self._places == ends:
            return []
        start, seq, logged = list(self._places), self._seq, self._logged
        items = self._spooled(streams, ends[0], is_final=is_final)
        for stream, name in _LOG_STREAMS:
            items += self._output(streams, stream, name, ends[stream], is_final)
        if self._places != start and repeat is None:
            self._save(_RECORD.pack(seq, logged, *start, *self._places))
        self._seq += len(items)
        return [(seq + index, *item) for index, item in enumerate(items)]

    def is_at(self, ends: list[int]) -> bool:
        """Say whether everything up to there has been handed out."""
        return self._repeat_to is None and self._places == ends

    def _spooled(
        self, streams: Streams, end: int, *, is_final: bool
    ) -> list[tuple[float, EventKind, Mapping[str, object]]]:
        items: list[tuple[float, EventKind, Mapping[str, object]]] = []
        start = self._places[0]
        if end - start > BACKLOG_BYTES_MAX:
            items.append(_notice("events_skipped", f"{end - start} bytes of events skipped"))
            self._places[0] = end
            return items
        data = streams.read(0, start, min(end, start + BATCH_BYTES_MAX))
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == BATCH_BYTES_MAX:
            items.append(_notice("bad_event", "a line of the spool is too long"))
            whole = len(data)
            data = b""
        self._places[0] = start + whole
        for line in data[:whole].split(b"\n"):
            record = parse_line(line)
            if record is None:
                if line:
                    items.append(_notice("bad_event", "a line of the spool cannot be read"))
            else:
                kind: EventKind = record.kind  # type: ignore[assignment]  # parse_line checks it
                items.append((record.at, kind, record.body))
        if is_final and start + len(data) == end and whole < len(data):
            self._places[0] = end
            items.append(_notice("bad_event", "the last line of the spool is torn"))
        return items

    def _output(
        self, streams: Streams, stream: int, name: str, end: int, is_final: bool
    ) -> list[tuple[float, EventKind, Mapping[str, object]]]:
        start = self._places[stream]
        left = self._output_bytes_max - self._logged
        if start == end:
            return []
        if left <= 0:  # The notice was given when it was reached.
            self._places[stream] = end
            streams.give_back(stream, start, end)
            return []
        data = streams.read(stream, start, min(end, start + min(BATCH_BYTES_MAX, left)))
        if not (is_final and start + len(data) == end):
            data = data[: _whole_characters(data)]
        if not data:
            return []
        self._places[stream] = start + len(data)
        self._logged += len(data)
        body = {"stream": name, "text": data.decode(errors="replace")}
        items: list[tuple[float, EventKind, Mapping[str, object]]] = [(time.time(), "log", body)]
        if self._logged >= self._output_bytes_max:
            text = f"output beyond {self._output_bytes_max} bytes is thrown away"
            items.append(_notice("output_capped", text))
        return items

    def _save(self, record: bytes) -> None:
        # One write within a block: a crash of the daemon leaves it old or new.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # On a full disk the worst is that some events are repeated after a crash.
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, record, 0)
        finally:
            os.close(descriptor)

    def _restore(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            self._seq, self._logged, *places = _RECORD.unpack(Path(self._path).read_bytes())
            self._places, self._repeat_to = places[:3], places[3:]


def _notice(code: str, text: str) -> tuple[float, EventKind, Mapping[str, object]]:
    return (time.time(), "notice", {"code": code, "text": text})


def _whole_characters(data: bytes) -> int:
    """Return how many bytes can be decoded without cutting the last character."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # Not a continuation: the character starts here.
            length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if back >= length else len(data) - back
    return len(data)
