"""What the worker's core asks of the execution layer."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal, NamedTuple

from lineshaft_protocol.values import value

Kind = Literal["function", "plan", "stream", "pipeline"]


class AttemptKey(NamedTuple):
    """One try of one job."""

    job_id: str
    attempt: int


@value()
class Shape:
    """What a runner must be like to execute an attempt; runners of equal shape are reused.

    Variables are part of it, so that no secret of one job is in the environment of another's.
    """

    environment: str = ""
    """Key of the Python environment; empty for the worker's own interpreter."""
    devices: tuple[str, ...] = ()
    """UUIDs of the GPUs it may see, in order."""
    cpus: tuple[int, ...] = ()
    """The CPUs it may run on, those near its GPUs; empty for all."""
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@value()
class Restored:
    """A checkpoint of an earlier attempt, fetched to this machine."""

    blob: Path
    """Read only, and there as long as the attempt is known."""
    name: str
    is_folder: bool
    facts: Mapping[str, object]
    """Step, metadata and attempt, for the job."""


@value(kw_only=True)
class AttemptOrder:
    """An attempt to execute."""

    key: AttemptKey
    kind: Kind
    name: str
    payload: bytes | Path
    """Packed `(args, kwargs)` of a function, a plan's payload, or a pipeline's bundle."""
    files: tuple[Path, ...] = ()
    """Blobs that the payload refers to, each named by its SHA-256."""
    code_id: str | None = None
    """Names the function's code; required for functions."""
    code: bytes | Path | None = None
    """The pickled function."""
    devices: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    """The CPUs near its GPUs; empty for all."""
    run_s: float | None = None
    """Longest run; then it is stopped and failed with cause "timeout"."""
    memory_bytes: int | None = None
    """Most memory of all its processes; beyond it the attempt fails with cause "oom"."""
    lease_s: float | None = None
    """How long it may go on when no heartbeat is answered; None: as `LeasePage` says."""
    lease_grace_s: float | None = None
    """How long it may take to end itself when its shim ends it for that."""
    checkpoint: Restored | None = None
    """From which it goes on."""
    environment: str = ""
    event_count: int = 0
    """Events that were told of it before; its own are numbered from the next."""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Variables for the runner besides the daemon's own."""

    def shape(self) -> Shape:
        """Return what a runner must be like to execute this."""
        return Shape(self.environment, self.devices, self.cpus, tuple(sorted(self.env.items())))
