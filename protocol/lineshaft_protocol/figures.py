"""What a worker's daemon counts of itself, for whoever watches over the coordinator."""

from typing import Annotated

from pydantic import Field

from lineshaft_protocol.wire import NUMBER_MAX, Wire

_FAST_S = (0.001, 0.01, 0.1)
ENVIRONMENT_BOUNDS_S = (*_FAST_S, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of the buckets into which times of environments go, found or made; rising."""


class Figures(Wire):
    """What a worker has counted."""

    spool_bytes: int = Field(default=0, ge=0, le=NUMBER_MAX)
    """What attempts told and printed, in their files, that is not acknowledged."""
    environment_hits: tuple[Annotated[int, Field(ge=0, le=NUMBER_MAX)], ...] = Field(
        default=(), max_length=100
    )
    """Attempts whose environment was there already, since the daemon's start: so many in each
    bucket by how long the look took. The buckets end at 0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10,
    30, 60, 120, 300, 600 and 1800 s, and the last has what is longer."""
    environment_hits_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How long all these looks took together, in seconds."""
