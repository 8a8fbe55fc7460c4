"""How many faults a test injects: few for each change, many at night; and what was injected."""

import json
import os
from pathlib import Path

IS_NIGHTLY = os.environ.get("LINESHAFT_NIGHTLY", "") == "1"
SCALE = float(os.environ.get("LINESHAFT_NIGHTLY_SCALE") or 1.0)
COUNTS_VARIABLE = "LINESHAFT_FAULT_COUNTS"
"""Names the file to which tests add what they did, for the table of `python -m tests.nightly`."""


def rounds(by_day: int, at_night: int) -> int:
    """How often to do it; `LINESHAFT_NIGHTLY_SCALE` shrinks the night's number."""
    if not IS_NIGHTLY:
        return by_day
    return max(by_day, round(at_night * SCALE))


def tell(fault: str, what: str, count: int, seen: str) -> None:
    """Note what was really injected, and what was seen; called when all was checked.

    Args:
        fault: As `docs/guarantees.md` numbers it: F1.
        what: The fault in words.
        count: How often it happened.
        seen: What came of it.
    """
    print(f"{fault}, {count} times {what}: {seen}")
    if path := os.environ.get(COUNTS_VARIABLE):
        line = json.dumps({"fault": fault, "what": what, "count": count, "seen": seen})
        with Path(path).open("a") as file:
            file.write(line + "\n")
