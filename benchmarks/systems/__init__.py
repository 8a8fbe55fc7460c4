"""What is compared: one file for each system, and this list.

An adapter is a class with the methods of `System`. It runs inside the environment of its own
system, so nothing here is imported before it is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

Handle = Any


class System(Protocol):
    """A head and workers with one slot each, in processes of their own on loopback."""

    def start(self) -> None:
        """Start everything, and connect this process as the client."""
        ...

    def submit(self, function: Callable[[Any], Any], arguments: Sequence[object]) -> list[Handle]:
        """Call the function once for each argument; return without waiting for results."""
        ...

    def gather(self, handles: Sequence[Handle]) -> list[Any]:
        """Wait for all results, in order."""
        ...

    def processes(self) -> Mapping[str, Sequence[int]]:
        """Process ids of `head` and `worker`; what these started belongs to them."""
        ...

    def stop(self) -> None:
        """End everything."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How to get and make one system."""

    module: str
    """`benchmarks.systems.…`; its class is `Adapter`."""
    environment: str | None = None
    """Name of its virtual environment; None is the one that runs this program."""
    requirements: tuple[str, ...] = ()
    imports: str = ""
    """The statement with which a client program begins."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment of all of its processes."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Further arguments of the adapter."""
    no_values: bool = False
    """Tasks return nothing: only counts and times of no-ops can be measured."""
    note: str = ""

    def make(self, folder: Path, worker_count: int) -> System:
        """Make the adapter; in the system's own environment."""
        adapter = import_module(f"benchmarks.systems.{self.module}").Adapter
        made: System = adapter(folder, worker_count, **self.options)
        return made


def _peer(environment: str, *requirements: str, **more: Any) -> Kind:
    return Kind(environment=environment, requirements=requirements, **more)


RAY_PATIENCE = {"RAY_raylet_start_wait_time_s": "120"}
"""Its own 30 s are too few for two nodes on a busy machine."""

SYSTEMS: Mapping[str, Kind] = {
    "lineshaft": Kind(
        module="lineshaft_farm",
        imports="from lineshaft import Client",
        note="every task on disk (`synchronous=FULL`) before it is acknowledged",
    ),
    "lineshaft-wire": Kind(
        module="lineshaft_farm",
        imports="from lineshaft import Client",
        options={"by_wire": True},
        note="as between machines: `--blobs-by-wire`",
    ),
    "dask": _peer(
        "dask",
        "distributed",
        module="dask_cluster",
        imports="from distributed import Client",
        note="by default",
    ),
    "dask-tuned": _peer(
        "dask",
        "distributed",
        module="dask_cluster",
        imports="from distributed import Client",
        variables={"DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "inf"},
        note="`distributed.scheduler.worker-saturation: inf`",
    ),
    "ray": _peer(
        "ray",
        "ray",
        module="ray_cluster",
        imports="import ray",
        variables=RAY_PATIENCE,
        note="head and workers are nodes",
    ),
    "ray-tuned": _peer(
        "ray",
        "ray",
        module="ray_cluster",
        imports="import ray",
        variables=RAY_PATIENCE,
        options={"one_node": True},
        note="one node, so that arrays go through shared memory, given with `ray.put`",
    ),
    "parsl": _peer("parsl", "parsl", module="parsl_htex", imports="import parsl", note="HTEX"),
    "scaler": _peer(
        "scaler",
        "opengris-scaler",
        module="scaler_cluster",
        imports="from scaler import Client",
        note="OpenGRIS",
    ),
    "hyperqueue": _peer(
        "hyperqueue",
        "hyperqueue",
        module="hyperqueue_cluster",
        imports="from hyperqueue import Client",
        no_values=True,
        variables={"TQDM_DISABLE": "1"},
        note="its tasks are programs: `true`; head and worker are one process",
    ),
    "relay": Kind(
        module="bare_relay",
        note="a floor: three processes, msgpack over TCP, no disk, no checks, no runner",
    ),
}
