"""How many faults a test injects: few for each change, many at night."""

import os

IS_NIGHTLY = os.environ.get("LINESHAFT_NIGHTLY", "") == "1"
SCALE = float(os.environ.get("LINESHAFT_NIGHTLY_SCALE") or 1.0)


def rounds(by_day: int, at_night: int) -> int:
    """How often to do it; `LINESHAFT_NIGHTLY_SCALE` shrinks the night's number."""
    if not IS_NIGHTLY:
        return by_day
    return max(by_day, round(at_night * SCALE))
