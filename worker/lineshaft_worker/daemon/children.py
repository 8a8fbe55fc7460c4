"""Parts of a running plan that are done elsewhere: what goes out, and what comes back."""

from collections.abc import Callable
from pathlib import Path

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.outcomes import Outcome
from lineshaft_worker.core import io
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.daemon.assigns import Assigns
from lineshaft_worker.daemon.supply import Supply
from lineshaft_worker.daemon.translation import child_failure, child_spec, request_of
from lineshaft_worker.execution import reports
from lineshaft_worker.execution.orders import AttemptKey as OrderKey
from lineshaft_worker.execution.pool import Execution


class Children:
    """Carries payloads and results between plans that run here and their child jobs."""

    def __init__(
        self,
        supply: Supply,
        execution: Execution,
        assigns: Assigns,
        post: Callable[[io.Event], None],
    ) -> None:
        self._supply, self._execution = supply, execution
        self._assigns, self._post = assigns, post

    async def ask(self, key: AttemptKey, asked: reports.ChildRequested) -> None:
        """Store what a part is called with, and have the core ask for it."""
        try:
            payload = await self._supply.store(asked.payload)
            spec = child_spec(asked, payload, self._assigns.known(key))
        except (LineshaftError, OSError, ValueError) as error:
            failure = reports.Failure(
                cause="exception", type_name="OSError", message=f"cannot send the node: {error}"
            )
            self._execution.answer_child(OrderKey(key.job_id, key.attempt), asked.request, failure)
            return
        self._post(io.ChildAsked(key, spec))

    async def answer(self, key: AttemptKey, outcome: Outcome) -> None:
        """Bring the result of a part, and give it to the plan that waits."""
        request = request_of(key, outcome.job_id)
        if request is None:
            return
        answer: bytes | Path | reports.Failure
        if outcome.status != "succeeded" or outcome.result is None:
            answer = child_failure(outcome)
        elif outcome.result.blob is None:
            answer = outcome.result.inline_bytes()
        else:
            blob_id = BlobId(outcome.result.blob)
            self._supply.hold(key, [blob_id])
            try:
                answer = await self._supply.bring(blob_id)
            except (LineshaftError, OSError) as error:
                answer = reports.Failure(
                    cause="exception", type_name="OSError", message=f"result lost: {error}"
                )
        self._execution.answer_child(OrderKey(key.job_id, key.attempt), request, answer)
