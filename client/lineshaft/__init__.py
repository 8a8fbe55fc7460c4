"""Run Python work on your own machines, and trust it.

Everything here is imported when it is first used, so that `import lineshaft` costs next to nothing
inside a job.
"""

from importlib import import_module

# Type checkers know this name; importing it from typing would cost a job more than all of run.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from concurrent.futures import as_completed as as_completed
    from concurrent.futures import wait as wait

    from lineshaft import errors as errors
    from lineshaft import run as run
    from lineshaft.async_client import AsyncClient as AsyncClient
    from lineshaft.blocking_job import Job as Job
    from lineshaft.client import Client as Client
    from lineshaft.errors import LineshaftError as LineshaftError
    from lineshaft.executor import Executor as Executor
    from lineshaft.filters import Filter as Filter
    from lineshaft.graph import Graph as Graph
    from lineshaft.job import AsyncJob as AsyncJob
    from lineshaft.pipeline import Pipeline as Pipeline
    from lineshaft_protocol.version import __version__ as __version__
    from lineshaft_runtime.data_refs import DataRef as DataRef

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "DataRef",
    "Executor",
    "Filter",
    "Graph",
    "Job",
    "LineshaftError",
    "Pipeline",
    "__version__",
    "as_completed",
    "errors",
    "run",
    "wait",
]

_MODULES = {
    "AsyncClient": "lineshaft.async_client",
    "AsyncJob": "lineshaft.job",
    "Client": "lineshaft.client",
    "DataRef": "lineshaft_runtime.data_refs",
    "Executor": "lineshaft.executor",
    "Filter": "lineshaft.filters",
    "Graph": "lineshaft.graph",
    "Job": "lineshaft.blocking_job",
    "LineshaftError": "lineshaft.errors",
    "Pipeline": "lineshaft.pipeline",
    "__version__": "lineshaft_protocol.version",
    "as_completed": "concurrent.futures",
    "wait": "concurrent.futures",
}


def __getattr__(name: str) -> object:
    if name in {"errors", "run"}:
        return import_module(f"lineshaft.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
