"""Curves of runs: as text for a terminal, as a page without scripts, as a picture."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from lineshaft.cli.exits import MissingExtraError, UsageError

COLOURS = ("#2266cc", "#cc5500", "#118833", "#aa2277", "#777777", "#008899", "#885511", "#5533aa")
CURVES_MAX = len(COLOURS)
MARKS = "*+ox#@%&"
HEIGHT = 16
WIDTH_MIN = 30
DOTS_WIDE, DOTS_HIGH = 960, 400
MARGIN = 60


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's points of a metric."""

    run: str
    points: list[tuple[float, float]]
    label: str
    """How many of how many points these are."""

    @classmethod
    def of(cls, run: str, found: dict[str, Any]) -> Self:
        """Read a curve as it is answered; what is no finite number is left out."""
        points: list[tuple[float, float]] = []
        for place, (step, value) in enumerate(zip(found["steps"], found["values"], strict=True)):
            if isinstance(value, int | float) and math.isfinite(value):
                points.append((float(place if step is None else step), float(value)))
        return cls(run, points, str(found["label"]))


def _extent(curves: Sequence[Curve]) -> tuple[float, float, float, float]:
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    return left, right if right > left else left + 1, low, high if high > low else low + 1


def terminal_plot(metric: str, curves: Sequence[Curve], *, width: int) -> list[str]:
    """Return the lines of a plot in characters."""
    left, right, low, high = _extent(curves)
    cells = max(WIDTH_MIN, width - 12)
    grid = [[" "] * cells for _ in range(HEIGHT)]
    for mark, curve in zip(MARKS, curves, strict=False):
        for x, y in curve.points:
            column = round((x - left) / (right - left) * (cells - 1))
            line = round((high - y) / (high - low) * (HEIGHT - 1))
            grid[line][column] = mark
    lines = [metric]
    for place, row in enumerate(grid):
        value = high - (high - low) * place / (HEIGHT - 1)
        told = f"{value:>10.4g}" if place % 5 == 0 else " " * 10
        lines.append(f"{told} |{''.join(row)}".rstrip())
    lines.append(" " * 11 + "+" + "-" * cells)
    lines.append(f"{'':11} {left:<.6g}{right:>{max(1, cells - len(f'{left:.6g}'))}.6g}")
    lines += [f"{mark} {c.run}, {c.label}" for mark, c in zip(MARKS, curves, strict=False)]
    return lines


def save_plot(path: Path, metric: str, curves: Sequence[Curve]) -> None:
    """Draw into a file.

    Raises:
        UsageError: Its name says neither .html nor .png.
        MissingExtraError: matplotlib is not installed, which pictures need.
    """
    match path.suffix.lower():
        case ".html" | ".htm":
            path.write_text(_page(metric, curves))
        case ".png":
            _picture(path, metric, curves)
        case _:
            raise UsageError(f"{path} must end in .html or .png")


def _page(metric: str, curves: Sequence[Curve]) -> str:
    left, right, low, high = _extent(curves)

    def place(x: float, y: float) -> str:
        across = MARGIN + (x - left) / (right - left) * (DOTS_WIDE - 2 * MARGIN)
        down = 20 + (high - y) / (high - low) * (DOTS_HIGH - 60)
        return f"{across:.1f},{down:.1f}"

    lines = [
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="'
        f'{" ".join(place(x, y) for x, y in curve.points)}"/>'
        for colour, curve in zip(COLOURS, curves, strict=False)
    ]
    ticks = [
        f'<text x="4" y="{24 + (DOTS_HIGH - 60) * quarter / 4:.0f}">'
        f"{high - (high - low) * quarter / 4:.4g}</text>"
        for quarter in range(5)
    ]
    ticks += [
        f'<text x="{MARGIN}" y="{DOTS_HIGH - 10}">{left:.6g}</text>',
        f'<text x="{DOTS_WIDE - MARGIN}" y="{DOTS_HIGH - 10}">{right:.6g}</text>',
    ]
    names = [
        f'<li style="color:{colour}">{html.escape(curve.run)}, {curve.label}</li>'
        for colour, curve in zip(COLOURS, curves, strict=False)
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(metric)}</title><h1>{html.escape(metric)}</h1>"
        f'<svg viewBox="0 0 {DOTS_WIDE} {DOTS_HIGH}" role="img" font-family="sans-serif"'
        f' font-size="11" aria-label="{html.escape(metric, quote=True)}">'
        f"{''.join(lines)}{''.join(ticks)}</svg><ul>{''.join(names)}</ul></html>\n"
    )


def _picture(path: Path, metric: str, curves: Sequence[Curve]) -> None:
    try:
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError("a PNG", "plots", "matplotlib") from error
    figure = figures.Figure(figsize=(9.6, 4.8))
    axes = figure.add_subplot()
    for colour, curve in zip(COLOURS, curves, strict=False):
        xs, ys = zip(*curve.points, strict=True) if curve.points else ((), ())
        axes.plot(xs, ys, color=colour, label=f"{curve.run}, {curve.label}")
    axes.set_title(metric)
    axes.legend()
    figure.savefig(path)
