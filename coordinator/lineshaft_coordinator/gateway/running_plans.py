"""Which plans run for whom, so that they can be cancelled, also from another connection."""

from collections.abc import Callable, Generator
from contextlib import contextmanager


class RunningPlans:
    """Plans and Python jobs that have been taken in and have not ended."""

    def __init__(self) -> None:
        self._stops: dict[tuple[str, str], list[Callable[[], None]]] = {}

    @contextmanager
    def listed(self, identity: str, plan_id: str, stop: Callable[[], None]) -> Generator[None]:
        """Let a plan be cancelled by its identity (a token) while this lasts."""
        stops = self._stops.setdefault((identity, plan_id), [])
        stops.append(stop)
        try:
            yield
        finally:
            stops.remove(stop)
            if not stops:
                del self._stops[identity, plan_id]

    def cancel(self, identity: str, plan_id: str) -> bool:
        """Ask for the end of all that run under this name; returns whether any does."""
        stops = self._stops.get((identity, plan_id), [])
        for stop in tuple(stops):
            stop()
        return bool(stops)
