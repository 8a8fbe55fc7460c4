"""Jobs whose ends settle futures, for as long as somebody has the future."""

import contextlib
import weakref
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

from lineshaft.endings import Ending
from lineshaft.errors import ClientClosedError, ForkedClientError, LineshaftError
from lineshaft.futures import LineshaftFuture
from lineshaft.job import packed_result, result_at_hand
from lineshaft.shell import Shell
from lineshaft.shipping import Prepared
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.outcomes import Outcome

ResultT = TypeVar("ResultT")


class Poster(Protocol):
    """The shell's thread."""

    def post(self, call: Callable[[], None]) -> None:
        """Have something called soon, from any thread. Raises as `LoopThread.post`."""
        ...


def submit_for(
    shell: Shell, prepared: Prepared, future: LineshaftFuture[ResultT], thread: Poster
) -> None:
    """Submit a job whose end settles the future, unless that was cancelled meanwhile.

    The future is held weakly: when nobody has it and nobody is to be called, its job goes on, and
    the coordinator need not tell us of it any more.

    Args:
        shell: Of the client.
        prepared: The job.
        future: Of its result.
        thread: The shell's.

    Raises:
        ClientClosedError: The client is closed.
        ForkedClientError: This is a child of the process that has the client.
    """
    waiting = future.keeper = _Waiting(future, shell, JobId(prepared.spec.job_id), thread)
    # The future goes along: nobody can have dropped it before its job is known here.
    thread.post(partial(_submit, shell, prepared, future, waiting))


def _submit(
    shell: Shell,
    prepared: Prepared,
    future: LineshaftFuture[ResultT],
    waiting: "_Waiting[ResultT]",
) -> None:
    if not future.cancelled():
        shell.jobs.submit_for(prepared, waiting)


class _Waiting(weakref.ref[LineshaftFuture[ResultT]], Generic[ResultT]):
    """Stands for a future in the shell's thread.

    It is the weak reference itself, and one object: Python's garbage collector looks at all that
    thousands of futures hold, again and again, and in the process of a user that is not ours to
    tune.
    """

    __slots__ = ("_job_id", "_shell", "_thread", "pinned")

    def __new__(
        cls, future: LineshaftFuture[ResultT], shell: Shell, job_id: JobId, thread: Poster
    ) -> "_Waiting[ResultT]":
        """Refer to the future, and hear when it is gone."""
        del shell, job_id, thread
        return super().__new__(cls, future, _dropped)

    def __init__(
        self, future: LineshaftFuture[ResultT], shell: Shell, job_id: JobId, thread: Poster
    ) -> None:
        super().__init__(future, _dropped)  # type: ignore[call-arg]  # typeshed has no __init__
        self._shell, self._job_id, self._thread = shell, job_id, thread
        self.pinned: object = None
        """The future, while somebody is to be called who may keep no future himself."""

    def on_end(self, ending: Ending) -> None:
        """The job has ended, or will not be heard of."""
        future = self()
        if future is None:
            return
        if isinstance(ending, LineshaftError) or ending.status != "succeeded":
            future.settle(ending, None)
        elif (data := result_at_hand(self._shell, ending)) is not None:
            future.settle(ending, data)
        else:
            self._shell.spawn(_fetch(self._shell, ending, future))

    def forget(self) -> None:
        """Have the job forgotten, whose end nobody waits for."""
        # Whatever thread collects garbage is here, so no more than this is done.
        with contextlib.suppress(ClientClosedError, ForkedClientError):
            self._thread.post(partial(self._shell.jobs.forget, self._job_id, self))

    @override
    def __eq__(self, other: object) -> bool:
        return self is other

    @override
    def __hash__(self) -> int:
        return id(self)


def _dropped(reference: weakref.ref[LineshaftFuture[ResultT]]) -> None:
    assert isinstance(reference, _Waiting), "nobody else calls this"
    reference.forget()


async def _fetch(shell: Shell, outcome: Outcome, future: LineshaftFuture[ResultT]) -> None:
    # Not when it is asked for: who asks may be a callback in the thread that would have to fetch.
    try:
        data = await packed_result(shell, outcome)
    except LineshaftError as error:
        future.settle(error, None)
    else:
        future.settle(outcome, data)
