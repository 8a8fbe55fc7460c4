"""When a job whose own code failed runs again."""

from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_protocol.jobs import Backoff, JobSpec

NO_WISH = Backoff()


def retry_delay_s(settings: CoreSettings, spec: JobSpec, failed_count: int) -> float:
    """Seconds to wait before the next attempt, doubled with each failure."""
    wish = spec.backoff or NO_WISH
    first_s = settings.retry_first_s if wish.first_s is None else wish.first_s
    max_s = max(settings.retry_max_s, first_s) if wish.max_s is None else wish.max_s
    # The exponent is bounded before it is used: 2.0 ** 1100 overflows.
    return min(max_s, first_s * 2.0 ** min(failed_count, 30))
