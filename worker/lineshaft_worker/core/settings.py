"""The worker's own numbers; the coordinator tells the others when it answers Register."""

from lineshaft_protocol.wire import Wire


class CoreSettings(Wire):
    """Times in seconds."""

    reconnect_first_s: float = 0.1
    reconnect_max_s: float = 10.0
    """Waiting before the next try to connect: doubled each time between these two."""
    lease_s: float = 450.0
    """How long what runs may go on without the coordinator, until it says otherwise."""
    register_s: float = 10.0
    """How long the coordinator may take to answer Register."""
    lane_horizon_s: float = 0.005
    """Brief work handed to a runner ahead of time, so that it never waits for us."""
    lane_max: int = 256
    """Most attempts on one lane."""
    stuck_s: float = 0.05
    """A lane whose first takes this long gives back what waits behind it."""
    unacked_max: int = 10_000
    """Most events of an attempt kept for a coordinator that does not answer."""
    spool_lines_max: int = 64
    """Most events in one message."""
    spool_characters_max: int = 256 * 1024
    """Likewise, of their texts, but for one that is longer alone: in JSON a character may take six
    bytes, and the coordinator takes frames of 4 MiB."""
