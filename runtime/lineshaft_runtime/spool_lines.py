"""Lines of a spool, read back by the daemon; `spool` writes them."""

import json

KINDS = ("progress", "metrics", "checkpoint", "artifact", "notice")


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
    """Return what a line says; None if it is no whole line of ours."""
    try:
        record = json.loads(line)
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
    return SpoolRecord(kind, seq, (at, monotonic), body)
