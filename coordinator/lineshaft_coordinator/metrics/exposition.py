"""Numbers in the text format of Prometheus.

Not its client library: that keeps what it counts in one place for the whole process, and costs
1.4 MiB of memory for the little we need. A test reads what is written here with its parser.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, TypeAlias

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """All numbers of one name."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    values: Mapping[Labels, float]
    """By labels; empty labels for a name that has none."""

    def lines(self) -> list[str]:
        """As text."""
        told = [f"{self.name}{_labels(labels)} {value!r}" for labels, value in self.values.items()]
        return _head(self.name, self.help, self.kind) + told


@dataclass(slots=True)
class Counter:
    """Counts what happens, by one label; each count costs a look."""

    name: str
    help: str
    label: str
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """By the label's value; those that are there at the start are told from the start."""

    def add(self, value: str) -> None:
        """Count one."""
        self.counts[value] = self.counts.get(value, 0) + 1

    def lines(self) -> list[str]:
        """As text."""
        values: dict[Labels, float] = {
            ((self.label, value),): count for value, count in self.counts.items()
        }
        return Family(self.name, self.help, "counter", values).lines()


class Histogram:
    """Counts spans of time in buckets; each costs a search among a dozen bounds.

    Args:
        bounds: Upper bounds of the buckets in seconds, rising.
    """

    def __init__(self, name: str, help_: str, bounds: Sequence[float]) -> None:
        self.name, self.help, self.bounds = name, help_, tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        """By bucket; the last has what is above all bounds."""
        self.sum_s = 0.0

    def observe(self, span_s: float) -> None:
        """Count a span; a clock that was set back makes it nothing, not negative."""
        span_s = max(0.0, span_s)
        self.counts[bisect_left(self.bounds, span_s)] += 1
        self.sum_s += span_s

    def lines(self) -> list[str]:
        """As text."""
        return _head(self.name, self.help, "histogram") + self.samples(())

    def samples(self, labels: Labels) -> list[str]:
        """As text without its head, with labels."""
        so_far = list(accumulate(self.counts))
        bounds = [*(repr(float(bound)) for bound in self.bounds), "+Inf"]
        told = [
            f"{self.name}_bucket{_labels((*labels, ('le', bound)))} {count}"
            for bound, count in zip(bounds, so_far, strict=True)
        ]
        written = _labels(labels)
        told.append(f"{self.name}_sum{written} {self.sum_s!r}")
        return [*told, f"{self.name}_count{written} {so_far[-1]}"]


@dataclass(frozen=True, slots=True)
class Split:
    """A histogram whose spans are of several sorts, told apart by one label."""

    label: str
    sorts: Mapping[str, Histogram]
    """By the label's value; all of one name and with the same bounds."""

    def lines(self) -> list[str]:
        """As text."""
        first = next(iter(self.sorts.values()))
        told = _head(first.name, first.help, "histogram")
        for value, histogram in self.sorts.items():
            told += histogram.samples(((self.label, value),))
        return told


Written: TypeAlias = Family | Counter | Histogram | Split


def exposition(families: Iterable[Written]) -> bytes:
    """Write all of them as one answer to a scrape."""
    return "".join(f"{line}\n" for family in families for line in family.lines()).encode()


def _head(name: str, text: str, kind: str) -> list[str]:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return [f"# HELP {name} {escaped}", f"# TYPE {name} {kind}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
