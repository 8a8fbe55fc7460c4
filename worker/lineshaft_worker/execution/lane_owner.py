"""What a lane asks of the whole."""

from typing import Protocol

from lineshaft_worker.execution.attempts import Attempt, Ending
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.orders import Shape
from lineshaft_worker.execution.reports import Outcome, Report


class LaneOwner(Protocol):
    """What a lane needs of the whole."""

    def report(self, report: Report) -> None:
        """Tell the core."""
        ...

    def may_spawn(self, lane: int, shape: Shape) -> bool:
        """Say whether no idle runner of another lane keeps memory on its GPUs; end such ones."""
        ...

    def spawn(self, lane: int, shape: Shape) -> Host:
        """Start a runner. Raises OSError."""
        ...

    def finish(self, attempt: Attempt, outcome: Outcome, ending: Ending) -> None:
        """Report an end, after the attempt's last events."""
        ...

    def give_back(self, attempt: Attempt) -> None:
        """Report that an attempt never began, and forget it."""
        ...

    def retire(self, host: Host) -> None:
        """Take a runner that is gone: its folder goes when nothing in it is needed."""
        ...

    def next_ticket(self) -> int:
        """Return a number that no attempt has had."""
        ...
