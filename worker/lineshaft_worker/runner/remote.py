"""Parts of a plan that run on other workers: each becomes a child job, and its thread waits."""

import json
from collections.abc import Callable

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.seed.plans import RemoteTarget, Tag
from lineshaft_runtime.packing import BytesLike
from lineshaft_runtime.plans.executor import PlanOutcome, RemoteCall
from lineshaft_runtime.plans.work import call_payload, read_outcome
from lineshaft_worker.runner.frames import Answer
from lineshaft_worker.runner.results import load


class RemoteFailureError(LineshaftError):
    """A part of a plan that ran on another worker failed there."""

    def __init__(self, failure: list[object]) -> None:
        cause, type_name, message, *_ = failure
        super().__init__(f"{type_name or cause}: {message}")
        self.failure = failure


class RemoteParts:
    """Runs a `Remote` part by asking the daemon; the executor calls it from several threads."""

    def __init__(self, spawn: Callable[[int, str, list[BytesLike]], Answer], ticket: int) -> None:
        self._spawn = spawn
        self._ticket = ticket

    def __call__(self, call: RemoteCall, /) -> PlanOutcome:
        """Return what the part gave.

        Raises:
            RemoteFailureError: It failed there.
        """
        answer = self._spawn(self._ticket, target_text(call.target), call_payload(call))
        if answer.failure is not None:
            raise RemoteFailureError(answer.failure)
        assert answer.result is not None, "an answer has a result or a failure"
        return read_outcome(load(answer.result))


def target_text(target: RemoteTarget) -> str:
    """Return where a part should run as JSON: `{"tag": …}` or `{"worker_id": …}`."""
    return json.dumps({"tag" if isinstance(target, Tag) else "worker_id": target.name})
