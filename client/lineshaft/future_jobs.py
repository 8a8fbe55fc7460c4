"""Jobs whose ends settle futures, for as long as somebody has the future."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from lineshaft.endings import Ending
from lineshaft.errors import ClientClosedError, ForkedClientError, LineshaftError
from lineshaft.futures import LineshaftFuture
from lineshaft.job import inline_result, packed_result
from lineshaft.shell import Shell
from lineshaft.shipping import Prepared
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.outcomes import Outcome

ResultT = TypeVar("ResultT")

Post = Callable[[Callable[[], None]], None]


def submit_for(
    shell: Shell, prepared: Prepared, future: LineshaftFuture[ResultT], post: Post
) -> None:
    """Submit a job whose end settles the future, unless that was cancelled meanwhile.

    The future is held weakly: when nobody has it and nobody is to be called, its job goes on, and
    the coordinator need not tell us of it any more.

    Args:
        shell: Of the client.
        prepared: The job.
        future: Of its result.
        post: Has something called soon in the shell's thread; may be called from any thread.

    Raises:
        ClientClosedError: The client is closed.
        ForkedClientError: This is a child of the process that has the client.
    """

    def submit() -> None:
        if not future.cancelled():
            waiting = _Waiting(shell, JobId(prepared.spec.job_id), future, post)
            shell.jobs.submit(prepared, waiting.on_end)

    post(submit)


class _Waiting(Generic[ResultT]):
    """Stands for a future in the shell's thread."""

    def __init__(
        self, shell: Shell, job_id: JobId, future: LineshaftFuture[ResultT], post: Post
    ) -> None:
        self._shell, self._job_id = shell, job_id
        on_end = self.on_end

        def dropped(_: object) -> None:
            # Whatever thread collects garbage is here, so no more than this is done.
            with contextlib.suppress(ClientClosedError, ForkedClientError):
                post(lambda: shell.jobs.forget(job_id, on_end))

        self._future: weakref.ref[LineshaftFuture[ResultT]] | None = weakref.ref(future, dropped)
        # Who registered a callback is told, though he keeps no future.
        self._pin = future.pin

    def on_end(self, ending: Ending) -> None:
        """The job has ended, or will not be heard of."""
        reference, self._future = self._future, None
        future = reference() if reference is not None else None
        if future is None:
            return
        if isinstance(ending, LineshaftError) or ending.status != "succeeded":
            future.settle(ending, None)
        elif (data := inline_result(ending)) is not None:
            future.settle(ending, data)
        else:
            self._shell.spawn(_fetch(self._shell, ending, future))


async def _fetch(shell: Shell, outcome: Outcome, future: LineshaftFuture[ResultT]) -> None:
    # Not when it is asked for: who asks may be a callback in the thread that would have to fetch.
    try:
        data = await packed_result(shell, outcome)
    except LineshaftError as error:
        future.settle(error, None)
    else:
        future.settle(outcome, data)
