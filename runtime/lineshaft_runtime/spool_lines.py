"""Lines of a spool, read back by the daemon; `spool` writes them.

Any process of a job may write to its spool. What a line says travels as a message of the daemon's,
so here it is made into what a message can carry.
"""

import json
import math
from typing import cast

from lineshaft_runtime.spool import LINE_BYTES_MAX

KINDS = ("progress", "metrics", "checkpoint", "artifact", "notice")
DEPTH_MAX = 64
"""What is nested deeper than this, not every reader of JSON takes."""


class SpoolRecord:
    """One line, read back."""

    __slots__ = ("at", "body", "kind", "monotonic", "seq")

    def __init__(self, kind: str, seq: int, times: tuple[float, float], body: dict[str, object]):
        self.kind = kind
        self.seq = seq
        """Counts the events of the writing process, those that it could not write included."""
        self.at, self.monotonic = times
        self.body = body


def parse_line(line: bytes) -> SpoolRecord | None:
    """Return what a line says; None if it is no whole line of ours, or too long for one."""
    if len(line) > LINE_BYTES_MAX:
        return None  # Our own are never that long; a message has room for many of those only.
    try:
        text = line.decode()
        record = json.loads(text)
        # The annotations say what is checked right after.
        kind: str = record["k"]
        seq: int = record["n"]
        at: float = record["t"]
        monotonic: float = record["m"]
        body: dict[str, object] = record["b"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    fields = (kind, seq, at, monotonic, body)
    if not all(map(isinstance, fields, (str, int, float, float, dict))) or kind not in KINDS:
        return None
    if not (math.isfinite(at) and math.isfinite(monotonic)):
        return None
    if "\\u" in text or text.count("[") + text.count("{") > DEPTH_MAX:
        body = cast("dict[str, object]", _carried(body, 0))
    return SpoolRecord(kind, seq, (at, monotonic), body)


def _carried(value: object, depth: int) -> object:
    """Return a copy without half characters, as of a name that is no UTF-8, or great depth."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict | list) and depth >= DEPTH_MAX:
        return "(nested too deeply)"
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {cast("str", _carried(key, 0)): _carried(each, depth + 1) for key, each in items}
    if isinstance(value, list):
        return [_carried(each, depth + 1) for each in cast("list[object]", value)]
    return value
