"""Makes events of what an attempt wrote: its lines in the spool, its output.

Theory. Three files of a runner grow; an attempt owns a part of each, from where they ended when it
began. Reading goes in batches, and a batch is a function of where it starts and where it ends.
Before a batch is handed out, start, end and first number are written to the attempt's `tail` file,
and stay there until the coordinator has it: a daemon that comes after a crash makes the same
batches again, with the same numbers, and whoever has seen them already can leave them out. So
nothing is lost and nothing counted twice, also when the coordinator was away meanwhile.
"""

import contextlib
import ctypes
import os
import struct
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from lineshaft_runtime.spool_lines import parse_line
from lineshaft_runtime.terminal_lines import as_seen
from lineshaft_worker.execution.reports import EventKind
from lineshaft_worker.runner.files import STREAMS, attempt_file, write_whole

BATCH_BYTES_MAX = 256 * 1024
"""Of each stream, so that a flood in one job does not hold up the daemon."""
OUTPUT_BYTES_MAX = 256 * 2**20
BACKLOG_BYTES_MAX = 256 * 2**20
"""A spool that runs this far ahead of us is cut, with a notice."""
LAST_LINES_MAX = 20
LINE_CHARACTERS_MAX = 2000
_LAST_BYTES = 64 * 1024
AHEAD_EVENTS_MAX = 4_000
"""So many events nobody has acknowledged, and what is new stays in its files until somebody has:
the core drops what it is given beyond 10,000, and a batch has some 4,000 at most."""
BATCHES_MAX = 10_000
"""Most batches kept for a coordinator that is away; as many events are kept by the core."""
_SLACK = 64
"""Batches in the file that are no longer needed, before it is written anew."""
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
            # Where blocks were given back there are zeros.
            data = self.read(stream, start, ends[stream]).lstrip(b"\0")
            text = data.decode(errors="replace")
            # Of a progress bar the last state only: it would fill all lines with earlier ones.
            seen = (as_seen(line).rstrip() for line in text.split("\n"))
            lines = [line[-LINE_CHARACTERS_MAX:] for line in seen if line.strip()]
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
        self._thrown: dict[int, tuple[int, int]] = {}
        """Which part of each stream was given back, as nobody will read it."""
        self._repeats: deque[list[int]] = deque()
        """Where the batches end that are to be handed out once more."""
        self._kept: deque[tuple[int, bytes]] = deque()
        """Number of the first event and record of each batch that is not acknowledged."""
        self._acked = 0
        self._file_count = 0
        with contextlib.suppress(OSError, ValueError):
            told = Path(attempt_file(str(folder), ticket, "first")).read_text(encoding="ascii")
            self._seq = 1 + int(told)
        self._restore()
        self._began = self._seq
        """Number of the first event that we hand out."""

    @property
    def is_far_ahead(self) -> bool:
        """Whether what is new has to wait until the coordinator has more of what it was told."""
        return self._seq - max(self._acked + 1, self._began) >= AHEAD_EVENTS_MAX

    @property
    def acknowledged(self) -> int:
        """Number of the last event that will never be asked for again."""
        return self._acked

    def kept_from(self) -> list[int]:
        """Return where, in each file, what the coordinator does not have for sure begins."""
        following = [seq for seq, _ in self._kept][1:]
        if self._kept:
            # Where the last batch ends is known again once all are handed out.
            following.append(self._acked + 2 if self._repeats else self._seq)
        for (_, record), next_seq in zip(self._kept, following, strict=True):
            if next_seq > self._acked + 1:
                return list(_RECORD.unpack(record)[2:5])
        return list(self._places)

    @property
    def is_repeating(self) -> bool:
        """Whether the next batch is one that an earlier daemon handed out."""
        return bool(self._repeats)

    def acknowledge(self, seq: int) -> None:
        """Events up to this number will never be asked for again."""
        self._acked = max(self._acked, seq)

    def read(self, streams: Streams, ends: list[int], *, is_final: bool = False) -> list[Event]:
        """Make the next batch of events; empty when there is nothing new.

        Args:
            streams: Where to read.
            ends: Up to where the attempt's part goes.
            is_final: Nothing will follow: what looks incomplete stays so.
        """
        repeat = self._repeats.popleft() if self._repeats else None
        if repeat is not None:
            ends, is_final = repeat, True
        if self._places == ends:
            return []
        start, seq, logged = list(self._places), self._seq, self._logged
        items = self._spooled(streams, ends[0], is_final=is_final)
        for stream, name in _LOG_STREAMS:
            items += self._output(streams, stream, name, ends[stream], is_final)
        if self._places != start and repeat is None:
            self._save(seq, _RECORD.pack(seq, logged, *start, *self._places))
        self._seq += len(items)
        return [(seq + index, *item) for index, item in enumerate(items)]

    def is_at(self, ends: list[int]) -> bool:
        """Say whether everything up to there has been handed out."""
        return not self._repeats and self._places == ends

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
        # Nobody will read beyond what is left, and a flood writes gigabytes before we are there.
        self._throw_away(streams, stream, start + max(left, 0), end)
        if left <= 0:  # The notice was given when it was reached.
            self._places[stream] = end
            return []
        data = streams.read(stream, start, min(end, start + min(BATCH_BYTES_MAX, left)))
        # The last bytes before the cap are taken as they are: the rest of a character never comes.
        if len(data) < left and not (is_final and start + len(data) == end):
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

    def _throw_away(self, streams: Streams, stream: int, start: int, end: int) -> None:
        # The end stays: if the job fails, its last words say why.
        end -= _LAST_BYTES
        if start >= end:
            return
        first, last = self._thrown.get(stream, (end, end))
        # What the other stream took of the cap is missing here: more goes, before what is gone.
        streams.give_back(stream, start, first)
        streams.give_back(stream, max(last, start), end)
        self._thrown[stream] = (min(first, start), max(last, end))

    def _save(self, seq: int, record: bytes) -> None:
        kept = self._kept
        # A batch ends where the next one begins.
        while kept and (kept[1][0] if len(kept) > 1 else seq) <= self._acked + 1:
            kept.popleft()
        if len(kept) >= BATCHES_MAX:
            kept.popleft()
        kept.append((seq, record))
        # On a full disk the worst is that some events are repeated, or missing, after a crash.
        with contextlib.suppress(OSError):
            if self._file_count >= 2 * len(kept) + _SLACK:
                write_whole(self._path, b"".join(each for _, each in kept))
                self._file_count = len(kept)
                return
            if len(kept) == 1:
                self._file_count = 0
            self._write(record, self._file_count * _RECORD.size)
            self._file_count += 1

    def _write(self, record: bytes, place: int) -> None:
        # One write within a block: a crash of the daemon leaves it old or new.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, record, place)
            if not place:
                os.ftruncate(descriptor, _RECORD.size)
        finally:
            os.close(descriptor)

    def _restore(self) -> None:
        with contextlib.suppress(OSError):
            data = Path(self._path).read_bytes()
            whole = len(data) - len(data) % _RECORD.size
            expected: list[int] | None = None
            for place in range(0, whole, _RECORD.size):
                record = data[place : place + _RECORD.size]
                seq, logged, *places = _RECORD.unpack(record)
                if expected is None:
                    self._seq, self._logged, self._places = seq, logged, places[:3]
                elif places[:3] != expected:
                    break  # Left over from before the file was begun anew.
                expected = places[3:]
                self._repeats.append(expected)
                self._kept.append((seq, record))
            self._file_count = len(self._kept)


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
