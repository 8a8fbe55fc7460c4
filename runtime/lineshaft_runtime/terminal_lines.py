"""Lines as a terminal shows them: what a progress bar has overwritten is not seen."""

import re

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERASES = re.compile(r"\x1b\[[012]?K")


def as_seen(line: str) -> str:
    """Return the last state of a line that overwrites itself with carriage returns.

    Sequences that move the cursor or colour the text are left out of such a line; a line
    without carriage returns is returned as it is.

    Args:
        line: Without its line end.
    """
    parts = line.rstrip("\r").split("\r")
    if len(parts) == 1:
        return parts[0]
    seen = ""
    for part in parts:
        written = _CONTROL.sub("", part)
        # What is longer than the text that was written over it sticks out behind.
        rest = "" if _ERASES.search(part) else seen[len(written) :]
        seen = written + rest
    return seen.rstrip()


def open_line(text: str) -> str:
    """Shorten an unfinished line that overwrites itself; what follows is seen all the same."""
    if text.count("\r") <= 1 + text.endswith("\r"):
        return text
    return as_seen(text) + ("\r" if text.endswith("\r") else "")
