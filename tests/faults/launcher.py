"""Runs a daemon that dies at a named point: `WHO POINT COUNT arguments of the daemon`.

The point is passed COUNT - 1 times; at the next pass the process is gone as if by SIGKILL. What
was reached is written to the file that FAULTS_REACHED names, so that a test knows it happened.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

from lineshaft_coordinator.core.records import JobFinished, decode
from lineshaft_coordinator.data.blob_names import BlobNames
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_coordinator.store.interface import Batch
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.worker_messages import Ended
from lineshaft_worker.core import io
from lineshaft_worker.daemon.shell import WorkerShell
from lineshaft_worker.daemon.uplink import Uplink
from lineshaft_worker.execution.pool import Execution

REACHED_VARIABLE = "FAULTS_REACHED"


class Point:
    """A place in the program where it may end."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._left = name, count

    def passed(self) -> None:
        """Come by; the last pass is the end."""
        self._left -= 1
        if self._left == 0:
            Path(os.environ[REACHED_VARIABLE]).write_text(self._name)
            os._exit(137)


def before_commit(point: Point) -> None:
    """A batch was decided on, and is not on disk."""
    append = SqliteStore.append

    @wraps(append)
    async def dying(self: SqliteStore, batch: Batch) -> None:
        point.passed()
        await append(self, batch)

    SqliteStore.append = dying  # type: ignore[method-assign]


def after_commit(point: Point) -> None:
    """A batch is on disk, and nobody was told."""
    append = SqliteStore.append

    @wraps(append)
    async def dying(self: SqliteStore, batch: Batch) -> None:
        await append(self, batch)
        point.passed()

    SqliteStore.append = dying  # type: ignore[method-assign]


def after_commit_of_an_end(point: Point) -> None:
    """The end of a job is on disk; its worker and its client do not know."""
    append = SqliteStore.append

    @wraps(append)
    async def dying(self: SqliteStore, batch: Batch) -> None:
        await append(self, batch)
        if any(isinstance(decode(body), JobFinished) for _, _, body in batch.records):
            point.passed()

    SqliteStore.append = dying  # type: ignore[method-assign]


def between_sends(point: Point) -> None:
    """Some of those concerned were told, others not."""
    send = Sessions.send

    @wraps(send)
    def dying(self: Sessions, session: Any, messages: list[Any]) -> None:
        send(self, session, messages)
        point.passed()

    Sessions.send = dying  # type: ignore[method-assign]


def during_replay(point: Point) -> None:
    """The journal is being read after a start."""
    construct = Daemon.__init__

    @wraps(construct)
    def dying(self: Daemon, *arguments: Any, **named: Any) -> None:
        construct(self, *arguments, **named)
        point.passed()

    Daemon.__init__ = dying  # type: ignore[method-assign]


def before_a_blob_is_named(point: Point) -> None:
    """The bytes of a blob are on disk, not under its name."""
    give = BlobNames.give

    @wraps(give)
    def dying(self: BlobNames, blob_id: str, source: Path) -> None:
        point.passed()
        give(self, blob_id, source)

    BlobNames.give = dying  # type: ignore[method-assign]


def after_a_blob_is_named(point: Point) -> None:
    """A blob is on disk under its name, and nobody was told."""
    give = BlobNames.give

    @wraps(give)
    def dying(self: BlobNames, blob_id: str, source: Path) -> None:
        give(self, blob_id, source)
        point.passed()

    BlobNames.give = dying  # type: ignore[method-assign]


def _on_ended(point: Point, *, is_before: bool) -> None:
    send = Uplink.send

    @wraps(send)
    def dying(self: Uplink, outgoing: Any) -> None:
        has_end = any(isinstance(m, Ended) for messages in outgoing.values() for m in messages)
        if has_end and is_before:
            point.passed()
        send(self, outgoing)
        if has_end and not is_before:
            point.passed()

    Uplink.send = dying  # type: ignore[method-assign]


def before_result_is_sent(point: Point) -> None:
    """The worker knows a result, and nobody else."""
    _on_ended(point, is_before=True)


def after_result_is_sent(point: Point) -> None:
    """The result is under way; Settled has not come."""
    _on_ended(point, is_before=False)


def after_assign(point: Point) -> None:
    """Work was taken, and its runner has it or not."""
    perform = WorkerShell._perform

    @wraps(perform)
    def dying(self: WorkerShell, effects: list[io.Effect]) -> None:
        perform(self, effects)
        if any(isinstance(effect, io.StartAttempt) for effect in effects):
            point.passed()

    WorkerShell._perform = dying  # type: ignore[method-assign]


def _around(owner: type, name: str, point: Point) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    @wraps(original)
    async def dying(self: Any) -> Any:
        answer = await original(self)
        point.passed()
        return answer

    setattr(owner, name, dying)


def during_adoption(point: Point) -> None:
    """Runners of the daemon before were found; the coordinator does not know."""
    _around(Execution, "open", point)


COORDINATOR_POINTS: dict[str, Callable[[Point], None]] = {
    "before_commit": before_commit,
    "after_commit": after_commit,
    "after_commit_of_an_end": after_commit_of_an_end,
    "between_sends": between_sends,
    "during_replay": during_replay,
}
BLOB_POINTS: dict[str, Callable[[Point], None]] = {
    "before_a_blob_is_named": before_a_blob_is_named,
    "after_a_blob_is_named": after_a_blob_is_named,
}
"""Of the coordinator too, where only large values pass."""
WORKER_POINTS: dict[str, Callable[[Point], None]] = {
    "before_result_is_sent": before_result_is_sent,
    "after_result_is_sent": after_result_is_sent,
    "after_assign": after_assign,
    "during_adoption": during_adoption,
}


def main() -> int:
    """Arm the point, then be the daemon."""
    who, name, count, *arguments = sys.argv[1:]
    if who == "coordinator":
        (COORDINATOR_POINTS | BLOB_POINTS)[name](Point(name, int(count)))
        from lineshaft_coordinator.__main__ import main as run  # noqa: PLC0415 - one of two
    else:
        WORKER_POINTS[name](Point(name, int(count)))
        from lineshaft_worker.__main__ import main as run  # noqa: PLC0415 - one of two
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
