"""run.log, one line a message with its time and level; lists of one JSON object a line."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Level = Literal["INFO", "WARN", "ERROR"]


def log_line(at_s: float, level: Level, text: str) -> str:
    """Return a line of run.log: `[2026-11-21T22:19:13.131Z] [INFO] text`."""
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    return f"[{at.replace('+00:00', 'Z')}] [{level}] {text}\n"


def append_text(path: Path, text: str) -> int:
    """Add text with one `write(2)`; returns how long the file is then, in bytes.

    Raises:
        OSError: The disk is full or broken.
    """
    content = text.encode(errors="replace")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a list, without those whose writer was killed in the middle."""
    found: list[dict[str, Any]] = []
    with suppress(FileNotFoundError), path.open(errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):
                found.append(json.loads(line))
    return found
