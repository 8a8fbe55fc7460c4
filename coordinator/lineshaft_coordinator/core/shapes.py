"""Jobs that ask for the same: one decision serves them all."""

from typing import NewType

from lineshaft_protocol.ids import WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.values import value

ONE_SLOT = Resources()
PYTHONS_MAX = 64
"""Of how many versions of Python the shapes are kept; clients may name any."""

EnvironmentKey = NewType("EnvironmentKey", int)
"""Stands for what a job wants in its environment; the same for the same wish in the same words.

A hash, since a wish may be long. Should two wishes share one, a job of the second holds its place
while its environment is made, and no more.
"""


@value()
class Shape:
    """All that placement looks at; how long such code takes is not part of it."""

    resources: Resources
    tags: tuple[str, ...]
    worker_id: WorkerId | None
    python: str | None
    environment: EnvironmentKey | None = None
    """What its worker must make it an environment of, if it asks for one."""
    nodes: int = 1
    """How many workers it takes at once, each with these resources."""
    has_processes: bool = False
    """Whether its worker must start several processes for it."""

    @classmethod
    def of(cls, spec: JobSpec) -> "Shape":
        """The shape of a job."""
        return cls(
            spec.resources or ONE_SLOT,
            tuple(sorted(spec.tags)) if spec.tags else (),
            WorkerId(spec.worker_id) if spec.worker_id else None,
            spec.python,
            _environment_of(spec) if spec.environment is not None else None,
            spec.nodes or 1,
            spec.processes is not None,
        )


class PlainShapes:
    """The shapes of plain jobs: the same object each time, which is found without looking at it."""

    def __init__(self) -> None:
        self._by_python: dict[str | None, Shape] = {}

    def of(self, spec: JobSpec) -> Shape:
        """The shape of a plain job."""
        shape = self._by_python.get(python := spec.python)
        if shape is None:
            if len(self._by_python) >= PYTHONS_MAX:
                self._by_python.clear()
            shape = self._by_python[python] = Shape.of(spec)
        return shape


def _environment_of(spec: JobSpec) -> EnvironmentKey:
    # Plans need more in it than other jobs do.
    return EnvironmentKey(hash((spec.environment, spec.python, spec.kind in ("plan", "stream"))))
