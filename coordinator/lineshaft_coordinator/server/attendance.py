"""Which workers come and go, for the log.

A worker that flaps says the same each second, and would push all else out of the log: of each
worker a few comings and goings are told a minute, and the others as their number and how it ended.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_protocol.ids import Session, WorkerId

logger = logging.getLogger(__name__)

WINDOW_S = 60.0
LINES_MAX = 4
"""Of one worker in one window: it restarts, and once more."""

Later = Callable[[float, Callable[[], None]], object]


@dataclass(slots=True)
class _Window:
    """What was said of one worker lately."""

    line_count: int = 0
    untold_count: int = 0


class Attendance:
    """Writes a line for each worker that joins or leaves.

    Args:
        workers: Those that are here, by session, as the core knows them.
        later: Calls something in so many seconds, as `loop.call_later` does.
    """

    def __init__(self, workers: Mapping[Session, Worker], later: Later) -> None:
        self._workers, self._later = workers, later
        self._names: dict[Session, WorkerId] = {}
        self._sessions: dict[WorkerId, Session] = {}
        self._windows: dict[WorkerId, _Window] = {}
        """Of those of which something was said in the last minute."""

    def joined(self, session: Session, host: str | None) -> None:
        """The worker of a session was told that it is one of ours.

        Args:
            session: Its connection.
            host: From where it dialled, as far as we can see; None if it has hung up already.
        """
        worker = self._workers.get(session)
        if host is None or worker is None or worker.capacity is None:
            return  # It has gone already, and `left` was called.
        name, capacity = worker.worker_id, worker.capacity
        self._names[session] = name
        self._sessions[name] = session
        gpus = [gpu.name for gpu in capacity.healthy_gpus]
        fields = {"host": host, "slots": capacity.slots, "gpus": gpus}
        self._say("worker joined", name, fields)

    def left(self, session: Session) -> None:
        """A session is over, whoever had it."""
        name = self._names.pop(session, None)
        # If it is back on another connection already, it has not left.
        if name is not None and self._sessions.get(name) == session:
            del self._sessions[name]
            self._say("worker left", name, {})

    def _say(self, text: str, name: WorkerId, fields: Mapping[str, object]) -> None:
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = _Window()
            self._later(WINDOW_S, lambda: self._close(name))
        if window.line_count == LINES_MAX:
            window.untold_count += 1
            return
        window.line_count += 1
        logger.info(text, extra={"worker_id": name, **fields})

    def _close(self, name: WorkerId) -> None:
        window = self._windows.pop(name)
        if window.untold_count:
            fields = {"times": window.untold_count, "is_here": name in self._sessions}
            logger.info("worker came and went", extra={"worker_id": name, **fields})
