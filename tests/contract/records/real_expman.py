"""The real expman (PyPI: expman-rs), to look at our records with its own eyes.

Its library runs wherever its wheel installs. Its command `exp` asks for glibc 2.39 only because of
two functions that it does without where they are missing (weak symbols: `pidfd_spawnp`,
`pidfd_getpid`). On an older system a copy is run in which that wish is marked as weak, too, which
is what the loader looks at; no instruction of the program is changed.
"""

import importlib.util
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

_VERSION_NEEDED: Final = 0x6FFFFFFE
_WEAK: Final = 2


@dataclass(frozen=True)
class Expman:
    """The command, ready to run."""

    program: Path

    def say(self, *arguments: str | os.PathLike[str]) -> str:
        """Run a command; returns what it printed."""
        # Wide, so that no name is cut.
        environment = {**os.environ, "COLUMNS": "400", "NO_COLOR": "1"}
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, *arguments: str | os.PathLike[str]) -> list[list[str]]:
        """Run a command that prints a table; returns its cells, without the head."""
        lines = [line for line in self.say(*arguments).splitlines() if "┆" in line]
        return [[cell.strip() for cell in line.strip("│").split("┆")] for line in lines[1:]]

    def exported(self, run: Path, target: Path) -> list[dict[str, Any]]:
        """All rows of a run, as expman exports them."""
        self.say("export", run, "-f", "json", "-o", target)
        rows: list[dict[str, Any]] = json.loads(target.read_text())
        return rows


def installed(folder: Path) -> Expman:
    """The command as it was installed, or a copy for an older glibc; skips where neither runs."""
    found = importlib.util.find_spec("expman")
    if found is None or found.origin is None:
        pytest.skip("expman-rs is not installed: pip install expman-rs")
    program = Path(found.origin).parent / "bin" / "exp"
    reason = _problem(program)
    if reason is not None and "GLIBC_" in reason:
        copy = folder / "exp"
        copy.write_bytes(_with_weak_versions(program.read_bytes()))
        copy.chmod(0o755)
        program, reason = copy, _problem(copy)
    if reason is not None:
        pytest.skip(f"expman's command does not run here: {reason}")
    return Expman(program)


def _problem(program: Path) -> str | None:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr


def _with_weak_versions(program: bytes) -> bytes:
    """Mark each version of glibc from 2.37 on as one that may be missing."""
    data = bytearray(program)
    (start,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + i * size) for i in range(count)]
    for section in sections:
        if section[1] != _VERSION_NEEDED:
            continue
        names = sections[section[6]][4]
        library, more = section[4], True
        while more:
            _, wanted, _, first, following = struct.unpack_from("<HHIII", data, library)
            wish = library + first
            for _ in range(wanted):
                _, flags, _, name, step = struct.unpack_from("<IHHII", data, wish)
                text = data[names + name : data.index(0, names + name)].decode()
                if text.startswith("GLIBC_2.") and int(text.split(".")[1]) > 36:
                    struct.pack_into("<H", data, wish + 4, flags | _WEAK)
                wish += step
            library, more = library + following, following != 0
    return bytes(data)


@contextmanager
def serving(expman: Expman, base: Path) -> Iterator[str]:
    """The seed's own server of these records; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [expman.program, "serve", base, "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
