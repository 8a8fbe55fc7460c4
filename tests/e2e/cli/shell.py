"""Runs commands as a user does: in a script, or on a terminal.

On a terminal a command is started as a user starts it. In a script it is forked from a process
that has imported it already, which takes a fifth of the time: there are hundreds of them.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.nursery import run_forked

LINESHAFT = (sys.executable, "-m", "lineshaft")
COMMAND_S = 90.0
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON value that it printed."""
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """The JSON values that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str], width: int):
        self._end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ | {"TERM": "xterm-256color"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._raw = ""

    @property
    def text(self) -> str:
        """All that was shown so far, without colours and moves of the cursor."""
        return _ESCAPE.sub("", self._raw).replace("\r\n", "\n")

    def wait_for(self, pattern: str, *, within_s: float = COMMAND_S) -> None:
        """Read until something was shown."""
        deadline = time.monotonic() + within_s
        while not re.search(pattern, self.text):
            assert self._read(deadline), f"{pattern!r} was not shown:\n{self.text}"

    def press_ctrl_c(self) -> None:
        """Send what the terminal would send for it."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, *, within_s: float = COMMAND_S) -> int:
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + within_s
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """End it, hard."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._end)

    def _read(self, deadline: float) -> bool:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([self._end], [], [], left_s)[0]:
            return False
        try:
            piece = os.read(self._end, 65536)
        except OSError:  # What Linux says when the last process has closed the terminal.
            return False
        self._raw += piece.decode(errors="replace")
        return bool(piece)


@dataclass
class Shell:
    """A folder and an environment to run commands in."""

    folder: Path
    environ: dict[str, str]
    _terminals: list[Terminal] = field(default_factory=list)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        within_s: float = COMMAND_S,
    ) -> Done:
        """Run a command whose output goes into files."""
        ended = run_forked(
            ["-m", "lineshaft", *arguments],
            self.environ | (environ or {}),
            folder=self.folder,
            within_s=within_s,
        )
        done = Done(ended.returncode, ended.stdout, ended.stderr)
        assert 'Traceback (most recent call last):\n  File "' not in done.err or (
            "lineshaft/cli" not in done.err
        ), done.err
        return done

    def on_terminal(self, *arguments: str, width: int = 80) -> Terminal:
        """Start a command on a terminal."""
        terminal = Terminal([*LINESHAFT, *arguments], self.folder, self.environ, width)
        self._terminals.append(terminal)
        return terminal

    def end(self) -> None:
        """Close all terminals."""
        for terminal in self._terminals:
            terminal.close()
