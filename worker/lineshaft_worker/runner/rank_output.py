"""What the ranks of a job print: one pipe for each stream of each, put together line by line."""

import contextlib
import fcntl
import os
from collections import deque

from lineshaft_runtime.terminal_lines import as_seen

LINE_BYTES_MAX = 64 * 1024
"""What is longer than this without an end is passed on in pieces."""
LINES_KEPT = 20
_PIECE_BYTES = 64 * 1024
_LEFT_PIECES_MAX = 16
_PIPE_BYTES = 1024 * 1024


class RankStream:
    """Reads what one rank prints to stdout or stderr, and passes it on with the rank before it.

    Only whole lines are passed on, so that those of several ranks do not mix. A state of a
    progress bar, which ends in a carriage return, is a line as well.
    """

    def __init__(self, rank: int, target: int) -> None:
        self.target = target
        """1 or 2: where it comes from, and where it goes."""
        self._prefix = f"[rank {rank}] ".encode()
        self._begun = b""
        self._kept: deque[bytes] = deque(maxlen=LINES_KEPT)
        self.source, self.end = os.pipe()
        os.set_blocking(self.source, False)
        with contextlib.suppress(OSError):  # The user has too many already: then as they are.
            fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def take_over(self) -> None:
        """In the rank: have what it prints go here."""
        os.dup2(self.end, self.target)
        os.close(self.end)
        os.close(self.source)

    def leave(self) -> None:
        """In the launcher: leave it to the rank to write."""
        os.close(self.end)

    def pass_on(self) -> bool:
        """Pass on what has come; says whether more may come."""
        data = self._read()
        if data:
            self._take(data)
        return data != b""

    def finish(self) -> None:
        """Pass on what is left, when the rank has ended."""
        # Whoever it started may still hold the other end, and write for ever.
        for _ in range(_LEFT_PIECES_MAX):
            data = self._read()
            if not data:
                break
            self._take(data)
        if self._begun:
            rest, self._begun = self._begun, b""
            self._write([rest + b"\n"])
        os.close(self.source)

    def last_lines(self) -> list[str]:
        """Return the last of what it printed."""
        return [as_seen(line.decode(errors="replace")).rstrip() for line in self._kept]

    def _read(self) -> bytes | None:
        """Return what has come; None for nothing yet, and empty when nothing will."""
        try:
            return os.read(self.source, _PIECE_BYTES)
        except BlockingIOError:
            return None

    def _take(self, data: bytes) -> None:
        *lines, begun = (self._begun + data).replace(b"\r\n", b"\n").splitlines(keepends=True)
        if begun.endswith((b"\n", b"\r")) or len(begun) > LINE_BYTES_MAX:
            lines.append(begun)
            begun = b""
        self._begun = begun
        # A bar begins each of its states by going back; there is nothing before the first.
        self._write([line for line in lines if line != b"\r"])

    def _write(self, lines: list[bytes]) -> None:
        for line in lines:
            # Of a bar its last state is enough.
            if self._kept and self._kept[-1].endswith(b"\r"):
                self._kept.pop()
            if line.strip():
                self._kept.append(line)
        data = memoryview(b"".join(self._prefix + line for line in lines))
        with contextlib.suppress(OSError):  # The disk is full: what it prints is lost, as ever.
            while data:
                data = data[os.write(self.target, data) :]
