"""Jobs that ask for the same: one decision serves them all."""

from lineshaft_protocol.ids import WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.values import value

ONE_SLOT = Resources()


@value()
class Shape:
    """All that placement looks at; how long such code takes is not part of it."""

    resources: Resources
    tags: tuple[str, ...]
    worker_id: WorkerId | None
    python: str | None
    has_environment: bool = False
    """Whether its worker must make it an environment."""
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
            spec.environment is not None,
            spec.nodes or 1,
            spec.processes is not None,
        )
