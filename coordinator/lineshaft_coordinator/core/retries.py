"""When a job whose own code failed runs again."""

from lineshaft_coordinator.core.settings import CoreSettings


def retry_delay_s(settings: CoreSettings, failed_count: int) -> float:
    """Seconds to wait before the next attempt, doubled with each failure."""
    # The exponent is bounded before it is used: 2.0 ** 1100 overflows.
    return min(settings.retry_max_s, settings.retry_first_s * 2.0 ** min(failed_count, 30))
