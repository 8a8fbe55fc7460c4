"""Jobs whose ends settle futures."""

from typing import TypeVar

from lineshaft.endings import Ending
from lineshaft.errors import LineshaftError
from lineshaft.futures import LineshaftFuture
from lineshaft.job import inline_result, packed_result
from lineshaft.shell import Shell
from lineshaft.shipping import Prepared
from lineshaft_protocol.outcomes import Outcome

ResultT = TypeVar("ResultT")


def submit_for(shell: Shell, prepared: Prepared, future: LineshaftFuture[ResultT]) -> None:
    """Submit a job whose end settles the future, unless that was cancelled meanwhile."""

    def on_end(ending: Ending) -> None:
        if isinstance(ending, LineshaftError) or ending.status != "succeeded":
            future.settle(ending, None)
        elif (data := inline_result(ending)) is not None:
            future.settle(ending, data)
        else:
            shell.spawn(_fetch(shell, ending, future))

    if not future.cancelled():
        shell.submit(prepared, on_end)


async def _fetch(shell: Shell, outcome: Outcome, future: LineshaftFuture[ResultT]) -> None:
    # Not when it is asked for: who asks may be a callback in the thread that would have to fetch.
    try:
        data = await packed_result(shell, outcome)
    except LineshaftError as error:
        future.settle(error, None)
    else:
        future.settle(outcome, data)
