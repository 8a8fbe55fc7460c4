"""Numbers that JSON does not have, and what is said instead of them.

Jobs log whatever they computed: NaN, infinities, and whole numbers beyond what a float holds.
"""

import math
from typing import TypeVar

from pydantic import JsonValue

NumberT = TypeVar("NumberT", bound=float)


def finite(value: NumberT) -> NumberT | None:
    """Return a number that JSON has and a float holds, or None."""
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # A whole number beyond what a float holds.
        return None


def strict(data: JsonValue) -> JsonValue:
    """Return data with None for NaN and infinities."""
    match data:
        case float():
            return finite(data)
        case dict():
            return {key: strict(value) for key, value in data.items()}
        case list():
            return [strict(value) for value in data]
        case _:
            return data


def spelled(data: JsonValue) -> JsonValue:
    """Return data with text for NaN and infinities: ``nan``, ``inf``, ``-inf``."""
    match data:
        case float() if not math.isfinite(data):
            return str(data)
        case dict():
            return {key: spelled(value) for key, value in data.items()}
        case list():
            return [spelled(value) for value in data]
        case _:
            return data
