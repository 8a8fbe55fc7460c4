"""Amounts of memory as people write them."""

import re

from lineshaft_protocol.errors import LineshaftError

_UNITS = {
    "": 1,
    "B": 1,
    "K": 1000,
    "KB": 1000,
    "KIB": 1024,
    "M": 1000**2,
    "MB": 1000**2,
    "MIB": 1024**2,
    "G": 1000**3,
    "GB": 1000**3,
    "GIB": 1024**3,
    "T": 1000**4,
    "TB": 1000**4,
    "TIB": 1024**4,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


class SizeError(LineshaftError, ValueError):
    """A text is not an amount of memory."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a size; write it as 20GiB, 512MiB or a number of bytes")
        self.text = text


def size_text(size_bytes: int) -> str:
    """Return an amount of memory for people, with three digits at most: 1.5 GiB."""
    amount = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.4g} TiB"


def parse_size(text: str | int) -> int:
    """Read an amount of memory, in bytes; ``8GiB``, ``500 MB`` and ``1024`` are amounts.

    Raises:
        SizeError: It is something else, or negative.
    """
    if isinstance(text, int):
        if text < 0:
            raise SizeError(str(text))
        return text
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match.group(2).upper()) if match else None
    if match is None or unit is None:
        raise SizeError(text)
    return int(float(match.group(1)) * unit)
