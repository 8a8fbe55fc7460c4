"""Event streams of seed 004: new rows of a run, and what is added to its logs.

Nothing waits for who listens, and nobody has a queue: rows lie once for all listeners of a run,
and each takes what came since he last did. Who was away for too long is told of the gap.
"""

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from lineshaft_coordinator.recorder.supervisor import AskError, Recorder, RecorderAwayError

EVERY_S: Final = 0.5
KEEP_ALIVE_S: Final = 15.0
ROWS_MAX: Final = 4096
REPLAYED_MAX: Final = 10_000
"""How many of the rows that there are already are told."""
_ROWS: Final = b',"rows":'
TEXT_BYTES: Final = 256 * 1024
STILL_HERE: Final = b": still here\n\n"
END: Final = b"event: end\ndata: {}\n\n"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Place = tuple[int, int]
"""Attempt and number of an event of the job."""
OVER: Final[Place] = (1 << 53, 0)
"""Behind all events that a run could have."""


class Tail:
    """The newest rows of one run, asked for once for all who listen."""

    def __init__(self, recorder: Recorder, run: str) -> None:
        self._recorder, self._run = recorder, run
        self.listeners = 0
        self._asking = asyncio.Lock()
        self._asked_at = -EVERY_S
        self._rows: deque[tuple[Place, bytes]] = deque()
        self.place: Place | None = None
        self.floor: Place = (0, 0)
        """What is later than this is in the rows."""
        self.is_open = True
        self._replaying = asyncio.Lock()
        self._replay: tuple[Place, bytes] | None = None
        self._joined: tuple[Place, Place, bytes] | None = None

    async def refresh(self) -> None:
        """Ask for new rows, unless somebody just did.

        Raises:
            AskError: There is no such run.
        """
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._asked_at < EVERY_S / 2 or not self.is_open:
                return
            self._asked_at = now
            try:
                after = self.place or ()
                answer = await self._recorder.ask("tail", run=self._run, after=after)
                told: dict[str, Any] = json.loads(answer)
            except RecorderAwayError:
                return  # It is started again, and says where its rows begin.
            self.is_open = bool(told["is_open"])
            if told["place"] is not None:
                floor = _place(told["floor"])
                if self.place is None or floor > self.place:
                    self.floor = floor
                    self._rows.clear()
                self.place = _place(told["place"])
                for where, row in told["rows"]:
                    text = json.dumps(row, separators=(",", ":")).encode()
                    self._rows.append((_place(where), text))
                while len(self._rows) > ROWS_MAX:
                    self.floor, _ = self._rows.popleft()

    async def replay(self) -> tuple[Place, bytes]:
        """Return a place, and the rows up to there as a JSON array; once for all who listen.

        Raises:
            AskError: There is no such run.
            RecorderAwayError: Nobody knows now.
        """
        async with self._replaying:
            # What follows it must still be among the rows.
            if self._replay is None or self._replay[0] < self.floor:
                about = {"run": self._run, "max_points": REPLAYED_MAX}
                head, _, rows = (await self._recorder.ask("replay", **about)).partition(_ROWS)
                # A megabyte that need not be looked into: the place stands before it.
                place: list[int] | None = json.loads(head + b"}")["place"]
                self._replay = (OVER if place is None else _place(place), rows[:-1])
            return self._replay

    def since(self, after: Place) -> bytes:
        """Return the rows after a place as one JSON array; empty if there are none."""
        assert self.place is not None, "rows come after a place"
        if self._joined is None or self._joined[:2] != (after, self.place):
            parts = [row for where, row in self._rows if where > after]
            text = b"[%b]" % b",".join(parts) if parts else b""
            self._joined = (after, self.place, text)
        return self._joined[2]


class _Silence:
    """How long a listener has heard nothing."""

    def __init__(self) -> None:
        self._lasts_s = 0.0

    def end(self) -> None:
        """He heard something."""
        self._lasts_s = 0.0

    async def goes_on(self) -> bool:
        """Wait until it is worth looking again; returns whether it is time for a sign of life."""
        await asyncio.sleep(EVERY_S)
        self._lasts_s += EVERY_S
        if self._lasts_s < KEEP_ALIVE_S:
            return False
        self._lasts_s = 0.0
        return True


class Streams:
    """Serves listeners."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tails: dict[str, Tail] = {}

    @asynccontextmanager
    async def _tail(self, run: str) -> AsyncGenerator[Tail]:
        tail = self._tails.setdefault(run, Tail(self._recorder, run))
        tail.listeners += 1
        try:
            yield tail
        finally:
            tail.listeners -= 1
            if not tail.listeners and self._tails.get(run) is tail:
                del self._tails[run]

    async def check(self, run: str) -> None:
        """Raise AskError if there is no such run, and RecorderAwayError if nobody knows."""
        await self._recorder.ask("tail", run=run)

    async def rows(self, run: str) -> AsyncIterator[bytes]:
        """Yield the rows of a run, and then what is recorded since, until the run ends.

        Of many rows those come first that its curves need; see `REPLAYED_MAX`.
        """
        after: Place | None = None
        silence = _Silence()
        async with self._tail(run) as tail:
            yield b"retry: 3000\n\n"
            while True:
                try:
                    await tail.refresh()
                except AskError:
                    break  # Somebody removed it.
                texts: list[bytes] = []
                try:
                    if after is None:
                        after, first = await tail.replay()
                        texts.append(first)
                except AskError:
                    break
                except RecorderAwayError:
                    pass  # As in `refresh`.
                if after is not None and tail.place is not None:
                    if after < tail.floor:
                        yield b'event: gap\ndata: {"fetch":"metrics"}\n\n'
                        after = tail.floor
                    texts.append(tail.since(after))
                    after = max(after, tail.place)
                for text in texts:
                    if text not in (b"", b"[]"):
                        yield b"data: %b\n\n" % text
                        silence.end()
                if after is not None and not tail.is_open:
                    break
                if await silence.goes_on():
                    yield STILL_HERE
            yield END

    async def text(self, run: str, path: Path, offset: int) -> AsyncIterator[bytes]:
        """Yield a log from an offset on, and what is added to it, until the run ends."""
        silence = _Silence()
        async with self._tail(run) as tail:
            yield b"retry: 3000\n\n"
            while True:
                try:
                    await tail.refresh()
                except AskError:
                    break
                was_open = tail.is_open
                piece = await asyncio.to_thread(_read, path, offset)
                if piece:
                    offset += len(piece)
                    yield b"id: %d\n%b\n" % (offset, _data(piece))
                    silence.end()
                    continue
                if not was_open:
                    break
                if await silence.goes_on():
                    yield STILL_HERE
            yield END


def _place(said: list[int]) -> Place:
    attempt, seq = said
    return attempt, seq


def _data(text: bytes) -> bytes:
    """Return a text as the data of an event; its lines may end in any way."""
    # A return alone, as of a progress bar, ends a line of the stream, too.
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"".join(b"data: %b\n" % line for line in lines)


def _read(path: Path, offset: int) -> bytes:
    """Read whole lines, or what there is of a very long one."""
    try:
        with path.open("rb") as file:
            # Where there is nothing, not every file system lets one go.
            file.seek(min(offset, os.fstat(file.fileno()).st_size))
            piece = file.read(TEXT_BYTES)
    except FileNotFoundError:
        return b""
    end = piece.rfind(b"\n") + 1
    return piece[:end] if end else piece
