"""Fewer points of a curve that look alike: of each piece, its lowest and its highest point.

Nothing is drawn by lot: the same points come out each time, and no peak is lost.
"""

from typing import Any, Final

from lineshaft_records import optional

POINTS_MIN: Final = 4


def thin(values: Any, points: int) -> Any:
    """Return the places of at most so many points, in order, the first and the last among them.

    Args:
        values: One number for each point; NaN may be among them.
        points: How many to keep at most, at least 4.
    """
    np = optional.numbers()
    count = len(values)
    points = max(points, POINTS_MIN)
    if count <= points:
        return np.arange(count)
    pieces = (points - 2) // 2
    size = -(-count // pieces)
    whole = count // size
    is_nan = np.isnan(values)
    low = high = values
    if is_nan.any():
        low, high = np.where(is_nan, np.inf, values), np.where(is_nan, -np.inf, values)
    starts = np.arange(whole) * size
    found = [np.array([0, count - 1])]
    found.append(low[: whole * size].reshape(whole, size).argmin(axis=1) + starts)
    found.append(high[: whole * size].reshape(whole, size).argmax(axis=1) + starts)
    if whole * size < count:
        rest = whole * size
        found.append(np.array([low[rest:].argmin() + rest, high[rest:].argmax() + rest]))
    return np.unique(np.concatenate(found))


def label(shown: int, there_are: int) -> str:
    """Say how many points of how many are shown: `2,000 of 1,000,000`."""
    return f"{shown:,} of {there_are:,}"
