"""How many requests one address may make in a minute."""

from collections import OrderedDict
from typing import Final

WINDOW_S: Final = 60.0
ADDRESSES_MAX: Final = 10_000


class RateLimit:
    """Allows so many requests an address in any minute.

    Args:
        per_minute: How many; 0: no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """Count a request; returns 0, or how long the address must wait, and does not count it.

        Args:
            address: Who asks.
            now: On any clock that only rises, in seconds.
        """
        if self._per_minute == 0:
            return 0.0
        times = [at for at in self._seen.pop(address, []) if at > now - WINDOW_S]
        self._seen[address] = times
        while len(self._seen) > ADDRESSES_MAX:
            self._seen.popitem(last=False)
        if len(times) >= self._per_minute:
            return times[0] + WINDOW_S - now
        times.append(now)
        return 0.0
