"""Which protocol versions a peer speaks, and which one two peers settle on."""

from pydantic import Field

from lineshaft_protocol.wire import NUMBER_MAX, Wire

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

FEATURES = (
    "batch",
    "blobs",
    "events",
    "recall",
    "children",
    "pause",
    "streams",
    "environments",
    "same_host",
    "gangs",
    "processes",
    "retry",
    "unplaced",
)
"""What this build can do beyond the protocol's first version; a peer uses what both name."""


class Versions(Wire):
    """A peer's range of protocol versions, and who it is."""

    protocol_min: int = Field(default=PROTOCOL_MIN, ge=1, le=NUMBER_MAX)
    protocol_max: int = Field(default=PROTOCOL_MAX, ge=1, le=NUMBER_MAX)
    features: tuple[str, ...] = FEATURES
    lineshaft: str = ""
    """The program's own version, for people."""
    python: str = Field(default="", pattern=r"^(\d+\.\d+(\.\d+)?)?$")


def settle(ours: Versions, theirs: Versions) -> int | None:
    """The newest protocol version both speak, or ``None`` when there is none."""
    newest = min(ours.protocol_max, theirs.protocol_max)
    return newest if newest >= max(ours.protocol_min, theirs.protocol_min) else None
