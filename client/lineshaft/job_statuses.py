"""Where a job may be, in the words by which jobs are listed."""

ENDED = ("succeeded", "failed", "cancelled")
STATUSES = (
    "live",
    "waiting",
    "queued",
    "assigned",
    "preparing",
    "running",
    "cancelling",
    "pausing",
    "paused",
    "frozen",
    *ENDED,
)
