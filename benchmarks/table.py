"""From rows to medians, and from medians to the tables that people read."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.figures import FIGURES, FLOORS, Figure
from benchmarks.harness import Row
from benchmarks.systems import SYSTEMS

OURS = "lineshaft"
NOT_PEERS = {OURS, f"{OURS}-wire", "relay"}

Cells = dict[tuple[str, str, str], float]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why there are no figures."""

    kind: Literal["skipped", "failed"]
    why: str


@dataclass(slots=True)
class Results:
    """Medians over the rounds, and what has none."""

    cells: Cells = field(default_factory=dict)
    """By scenario, figure and system."""
    reasons: dict[tuple[str, str], Reason] = field(default_factory=dict)
    """Why a system has nothing in a scenario."""
    floors: dict[str, float] = field(default_factory=dict)
    systems: list[str] = field(default_factory=list)
    about: Row = field(default_factory=dict)
    """Date, commit and machine of the run."""


def results_of(rows: Iterable[Row]) -> Results:
    """Gather the rows of a run."""
    results = Results()
    measured: dict[tuple[str, str, str], list[float]] = {}
    floors: dict[str, list[float]] = {}
    for row in rows:
        if "about" in row:
            results.about = row["about"]
            continue
        if "floors" in row:
            for name, value in row["floors"].items():
                floors.setdefault(name, []).append(value)
            continue
        scenario, system = row["scenario"], row["system"]
        if system not in results.systems:
            results.systems.append(system)
        for name, value in row.get("figures", {}).items():
            measured.setdefault((scenario, name, system), []).append(value)
        for kind in ("skipped", "failed"):
            if kind in row:
                results.reasons[scenario, system] = Reason(kind, row[kind])
    results.cells = {key: statistics.median(values) for key, values in measured.items()}
    results.floors = {name: statistics.median(values) for name, values in floors.items()}
    results.systems.sort(key=list(SYSTEMS).index)
    return results


def table(results: Results) -> list[list[str]]:
    """Lines of cells: what, each system, the best peer, how much better we are, the aim."""
    lines = [["", *results.systems, f"{OURS} : best peer", "aim"]]
    for (scenario, name), figure in FIGURES.items():
        cells = {
            system: value
            for system in results.systems
            if (value := results.cells.get((scenario, name, system))) is not None
        }
        has_reason = any((scenario, system) in results.reasons for system in results.systems)
        if cells or (has_reason and name == _first_figure(scenario)):
            shown = [_shown(results, scenario, system, cells) for system in results.systems]
            label = f"{figure.label} ({figure.unit})"
            lines.append([label, *shown, _ratio(figure, cells), _aim(figure)])
    return lines


def _first_figure(scenario: str) -> str:
    return next(name for each, name in FIGURES if each == scenario)


def _shown(results: Results, scenario: str, system: str, cells: Mapping[str, float]) -> str:
    if system in cells:
        return number(cells[system])
    reason = results.reasons.get((scenario, system))
    return reason.kind if reason else ""


def _ratio(figure: Figure, cells: Mapping[str, float]) -> str:
    peers = {system: value for system, value in cells.items() if system not in NOT_PEERS}
    ours = cells.get(OURS)
    if not peers or not ours:
        return ""
    best = (
        max(peers, key=peers.__getitem__)
        if figure.is_more_better
        else min(peers, key=peers.__getitem__)
    )
    if not peers[best]:
        return ""
    lead = ours / peers[best] if figure.is_more_better else peers[best] / ours
    return f"{lead:.2g} x ({best})"


def _aim(figure: Figure) -> str:
    sign = "≥" if figure.is_more_better else "≤"
    parts = [f"{sign} {figure.aim:,g}"] if figure.aim is not None else []
    parts += [f"≥ {figure.lead:g} x"] if figure.lead is not None else []
    return ", ".join(parts)


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        return f"{round(value, -1):,.0f}" if value < 10_000 else f"{round(value, -2):,.0f}"
    return f"{value:.3g}"


def flatness(results: Results) -> str:
    """What a task costs among 100,000, against one among 1,000."""
    told: list[str] = []
    for system in results.systems:
        few = results.cells.get(("noop-1k", "tasks_per_s", system))
        many = results.cells.get(("noop-100k", "tasks_per_s", system))
        if few and many:
            told.append(f"{system} {few / many:.2g}")
    return ", ".join(told)


def floor_lines(results: Results) -> list[list[str]]:
    """The floors as lines of cells."""
    known = [name for name in FLOORS if name in results.floors]
    lines = [
        [FLOORS[name][0], f"{number(results.floors[name])} {FLOORS[name][1]}"] for name in known
    ]
    return [["", "this machine"], *lines] if lines else []


def reason_lines(results: Results) -> list[str]:
    """Why a cell is empty; the same reason of one system once."""
    grouped: dict[tuple[str, Reason], list[str]] = {}
    for (scenario, system), reason in results.reasons.items():
        grouped.setdefault((system, reason), []).append(scenario)
    return [
        f"{system}, {', '.join(each)}: {reason.kind}, {reason.why}"
        for (system, reason), each in grouped.items()
    ]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """For a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows: list[str] = []
    for line in lines:
        first, *others = line
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        rows.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(rows)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """For a document."""
    head, *rest = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rest])
