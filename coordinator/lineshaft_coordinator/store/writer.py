"""The one connection that writes, and the thread that uses it when there is much to write.

SQLite 3.7.0 to 3.51.2 can corrupt a database when two connections write or checkpoint at once
(the WAL-reset bug), so there is never a second one. What waits while a commit is under way goes
into the next commit together: the busier it is, the cheaper a batch gets.

A small batch that meets an idle thread is committed by its caller: waking a thread and being woken
by it costs as much as the commit of one job. The connection belongs to the loop while nothing that
was given to the thread is unsettled, and to the thread otherwise; so they never use it at once.
A disk that syncs slowly must not hold up the loop: then the thread does it all, for a while.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from lineshaft_coordinator.store.changes import Changes
from lineshaft_coordinator.store.disk_pace import DiskPace
from lineshaft_coordinator.store.errors import StoreFullError
from lineshaft_coordinator.store.faults import FAULTS, as_store_error, is_lasting
from lineshaft_coordinator.store.interface import Batch
from lineshaft_protocol.values import value

_T = TypeVar("_T")
_GROUP_RECORDS_MAX: Final = 8192
"""Records in one commit; one batch alone may have more."""
_QUICK_RECORDS_MAX: Final = 16
"""Records in a batch that the loop commits itself."""


@value()
class _Append:
    batch: Batch
    done: asyncio.Future[None]


@value()
class _Work:
    perform: Callable[[Changes], None]
    done: asyncio.Future[None]


class Writer:
    """Runs all changes in order, in its own thread.

    The queue has no limit of its own: who appends waits for the commit before appending more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inbox: SimpleQueue[_Append | _Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._changes: Changes | None = None
        self._unsettled_count = 0
        """What was given to the thread and is not settled yet; 0: the connection is the loop's."""
        self._pace = DiskPace()
        self._failure: BaseException | None = None
        """Why nothing more is written, once the disk failed; goes with the connection."""

    async def start(
        self, connect: Callable[[], Changes], disconnect: Callable[[Changes], None]
    ) -> None:
        """Open the database in the thread; what `connect` raises is raised here.

        Args:
            connect: Opens the database.
            disconnect: Closes it again, when the writer stops.
        """
        assert self._thread is None, "a writer is started once"
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._unsettled_count += 1
        self._thread = threading.Thread(
            target=self._serve,
            args=(connect, disconnect, ready, loop),
            name="store-writer",
            daemon=True,
        )
        self._thread.start()
        await ready

    async def append(self, batch: Batch) -> None:
        """Write a batch; see `Store.append`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        append = _Append(batch, done)
        if self._is_quick(batch):
            self._append_here(append)
        else:
            self._give(append)
        await done

    async def run(self, work: Callable[[Changes], _T]) -> _T:
        """Do other work on the database, after all that was asked before."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        results: list[_T] = []
        self._give(_Work(lambda changes: results.append(work(changes)), done))
        await done
        return results[0]

    async def stop(self) -> None:
        """Finish all that was asked, close the database and end the thread."""
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)

    def _give(self, task: _Append | _Work) -> None:
        self._unsettled_count += 1
        self._inbox.put(task)

    def _is_quick(self, batch: Batch) -> bool:
        return (
            self._unsettled_count == 0
            and len(batch.records) <= _QUICK_RECORDS_MAX
            and not batch.events
            and self._pace.is_quick(time.monotonic())
        )

    def _append_here(self, append: _Append) -> None:
        assert self._changes is not None, "the database is open once the start is settled"
        started = time.monotonic()
        _conclude([append.done], self._perform(self._changes, [append]))
        now = time.monotonic()
        self._pace.note(now - started, now)

    def _serve(
        self,
        connect: Callable[[], Changes],
        disconnect: Callable[[Changes], None],
        ready: asyncio.Future[None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        try:
            changes = self._changes = connect()
        except BaseException as error:  # noqa: BLE001 - raised by start
            self._settle(loop, [ready], error)
            return
        self._settle(loop, [ready], None)
        is_stopping = False
        while not is_stopping:
            waiting = [self._inbox.get()]
            while not self._inbox.empty():
                waiting.append(self._inbox.get())
            for group in _groups(waiting):
                if group:
                    fault = self._perform(changes, group)
                    self._settle(loop, [task.done for task in group], fault)
                else:
                    is_stopping = True
        disconnect(changes)

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        done: Sequence[asyncio.Future[None]],
        error: BaseException | None,
    ) -> None:
        def settle() -> None:
            self._unsettled_count -= len(done)
            _conclude(done, error)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    def _perform(self, changes: Changes, group: Sequence[_Append | _Work]) -> BaseException | None:
        if self._failure is not None:
            return self._failure
        try:
            if isinstance(group[0], _Work):
                group[0].perform(changes)
            else:
                changes.write([task.batch for task in group if isinstance(task, _Append)])
        except FAULTS as error:
            failure = as_store_error(error, self._path)
            failure.__cause__ = error
            # SQLite may report a full disk as a failed write; only a failed sync has lost anything.
            if is_lasting(error) and not isinstance(failure, StoreFullError):
                self._failure = failure
            return failure
        except BaseException as error:  # noqa: BLE001 - raised by who asked
            return error
        return None


def _groups(
    waiting: Sequence[_Append | _Work | None],
) -> Iterator[Sequence[_Append | _Work]]:
    """Put neighbouring appends together; an empty group stands for the end."""
    appends: list[_Append] = []
    count = 0
    for task in waiting:
        if isinstance(task, _Append) and count < _GROUP_RECORDS_MAX:
            appends.append(task)
            count += len(task.batch.records)
            continue
        if appends:
            yield appends
            appends, count = [], 0
        match task:
            case _Append():
                appends, count = [task], len(task.batch.records)
            case _Work():
                yield [task]
            case None:
                yield []
    if appends:
        yield appends


def _conclude(done: Sequence[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in done:
        if future.done():  # who asked was cancelled; what it asked is done all the same
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
