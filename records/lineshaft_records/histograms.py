"""Distributions: counted where they are told, kept as expman keeps them."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from lineshaft_records import optional
from lineshaft_records.encoding import on_host
from lineshaft_records.rows import whole_step
from lineshaft_records.side_tables import SideRow

BINS: Final = 64
BINS_MAX: Final = 512
COUNT_MAX: Final = 1 << 63


def histogram_body(
    tag: str,
    values: object = None,
    *,
    step: int | None = None,
    bins: int = BINS,
    edges: Iterable[float] | None = None,
    counts: Iterable[int] | None = None,
) -> dict[str, object]:
    """Return what is told of a distribution: values are counted, or were so already.

    Args:
        tag: What of.
        values: Numbers, an array or a tensor of any shape; NaN and infinities are not counted.
        step: Where the run is.
        bins: How many of equal width they are counted into, 1 to 512.
        edges: Where bins begin, and where the last one ends, instead of values.
        counts: How many are in each, with `edges`.

    Raises:
        ValueError: Edges and counts do not fit, or there are too many.
        TypeError: These are no numbers.
    """
    if edges is not None and counts is not None:
        borders, numbers = [float(each) for each in edges], _whole(counts)
    elif values is None:
        raise ValueError("a histogram needs values, or edges and counts")
    elif not 1 <= bins <= BINS_MAX:
        raise ValueError(f"a histogram has 1 to {BINS_MAX} bins, not {bins}")
    else:
        borders, numbers = _counted(values, bins)
    if not 1 <= len(numbers) <= BINS_MAX or len(borders) != len(numbers) + 1:
        raise ValueError(
            f"a histogram has 1 to {BINS_MAX} counts and one edge more, not {len(numbers)} counts"
            f" and {len(borders)} edges"
        )
    if not all(map(math.isfinite, borders)):
        raise ValueError("edges of a histogram are finite")
    return {"tag": tag, "step": whole_step(step), "edges": borders, "counts": numbers}


def row_of_histogram(at_s: float, told: object) -> SideRow | None:
    """Read what was told as a row of histograms.parquet; None if it is none, or not whole."""
    if not isinstance(told, dict):
        return None
    body = cast("dict[str, object]", told)
    edges, counts = body.get("edges"), body.get("counts")
    if not (isinstance(edges, list) and isinstance(counts, list)):
        return None
    borders, numbers = cast("list[float]", edges), cast("list[int]", counts)
    if len(borders) != len(numbers) + 1:
        return None
    try:
        total = float(sum(numbers))
    except (TypeError, OverflowError):
        return None
    values: dict[str, float | str] = {
        # Half of a character, which no file of texts holds, is one of doubt.
        "tag": str(body.get("tag")).encode(errors="replace").decode(),
        "edges": _spelled(borders),
        "counts": _spelled(numbers),
        "total": total,
    }
    return SideRow(whole_step(body.get("step")), round(at_s * 1e6), values)


def told_histogram(row: SideRow) -> dict[str, Any]:
    """Return a row of histograms.parquet in words of JSON."""
    values = row.values
    return {
        "tag": values.get("tag"),
        "step": row.step,
        "time": row.at_us / 1e6,
        "edges": json.loads(str(values.get("edges", "[]"))),
        "counts": json.loads(str(values.get("counts", "[]"))),
    }


def _spelled(numbers: Sequence[float]) -> str:
    return json.dumps(numbers, separators=(",", ":"))


def _whole(counts: Iterable[int]) -> list[int]:
    try:
        numbers = [int(each) for each in counts]
    except OverflowError as error:
        raise ValueError("counts of a histogram are finite") from error
    if any(abs(each) > COUNT_MAX for each in numbers):
        raise ValueError(f"a count of a histogram is at most {COUNT_MAX}")
    return numbers


def _counted(values: object, bins: int) -> tuple[list[float], list[int]]:
    if hasattr(values, "shape"):
        return _counted_array(values, bins)
    try:
        told = [float(each) for each in cast("Iterable[float]", values)]
    except (TypeError, ValueError) as error:
        raise _no_numbers(values) from error
    numbers = [each for each in told if math.isfinite(each)]
    if not numbers:
        return [0.0, 0.0], [0]
    lowest, highest = min(numbers), max(numbers)
    bounds = _bounds(lowest, highest, bins)
    if bounds is None:
        return [lowest, highest], [len(numbers)]
    low, high = bounds
    width = (high - low) / bins
    counts = [0] * bins
    for each in numbers:
        counts[min(int((each - low) / width), bins - 1)] += 1
    return [*(low + place * width for place in range(bins)), high], counts


def _counted_array(values: object, bins: int) -> tuple[list[float], list[int]]:
    """Count an array, or a tensor of a framework, on whatever device it is."""
    np = optional.numbers()
    try:
        flat = np.asarray(on_host(values), dtype="float64").ravel()
    except (TypeError, ValueError) as error:
        raise _no_numbers(values) from error
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return [0.0, 0.0], [0]
    lowest, highest = float(flat.min()), float(flat.max())
    bounds = _bounds(lowest, highest, bins)
    if bounds is None:
        return [lowest, highest], [len(flat)]
    counts, edges = np.histogram(flat, bins=bins, range=bounds)
    return edges.tolist(), counts.tolist()


def _bounds(low: float, high: float, bins: int) -> tuple[float, float] | None:
    """Return from where to where bins go; None if numbers are too far apart for more than one.

    Numbers that are (nearly) all the same get some room, as there are no numbers between them for
    the edges of bins.
    """
    apart = math.ulp(max(abs(low), abs(high)))
    if (high - low) / bins < 2 * apart:
        room = max(0.5, 2 * bins * apart)
        low, high = low - room, high + room
    return (low, high) if math.isfinite(high - low) else None


def _no_numbers(values: object) -> TypeError:
    return TypeError(f"a histogram is of numbers, not of {type(values).__name__}")
