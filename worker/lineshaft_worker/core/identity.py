"""Who a worker is."""

from dataclasses import dataclass

from pydantic import JsonValue

from lineshaft_protocol.ids import WorkerId
from lineshaft_protocol.versions import Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the worker is; does not change while its daemon runs."""

    worker_id: WorkerId
    incarnation: str
    capabilities: dict[str, JsonValue]
    tags: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    """Minors that jobs can have here, our own first."""
    versions: Versions
