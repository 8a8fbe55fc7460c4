"""Copies what a process prints into console.log."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from lineshaft_records.text_logs import append_text


class Tee:
    """Stands in for sys.stdout or sys.stderr until it is told to go.

    Args:
        stream: Which one.
        path: Where the copy goes. What cannot be written there is left out.
    """

    def __init__(self, stream: Literal["stdout", "stderr"], path: Path) -> None:
        self._stream, self._path = stream, path
        self._original: Any = getattr(sys, stream)
        setattr(sys, stream, self)

    def write(self, text: str) -> int:
        """Print, and copy."""
        with suppress(OSError):
            append_text(self._path, text)
        return int(self._original.write(text) or 0)

    def restore(self) -> None:
        """Let the original stand in its place again, unless somebody else stands there now."""
        if getattr(sys, self._stream) is self:
            setattr(sys, self._stream, self._original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
