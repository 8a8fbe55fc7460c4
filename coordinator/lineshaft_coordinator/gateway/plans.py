"""Plans of seed clients as jobs of kind ``plan``."""

import secrets

from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.gateway.job_client import Ending, JobClient
from lineshaft_coordinator.gateway.kept_filters import KeptFilters
from lineshaft_coordinator.gateway.payloads import apart, environment_of, fetched, stored
from lineshaft_coordinator.gateway.running_plans import RunningPlans
from lineshaft_coordinator.gateway.uploads import Uploads
from lineshaft_protocol.client_messages import Refused
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.jobs import JobKind, JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.seed import (
    Dialect,
    Failed,
    Fit,
    InlineInput,
    InlineRef,
    PlanResult,
    ReferenceInput,
    SerializedPlan,
    Success,
    UnencodableError,
    decode_json,
    dialect_of,
    encode_json,
    read_plan_result,
)
from lineshaft_runtime.requirements import RequirementsError

CANCELLED_REASON = "cancelled by its client"
_USERS_FAULTS = ("NodeFailedError", "ChunkFailedError")
"""The exceptions of a plan whose filter raised; what others say is said by their message."""
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n"
"""What Python writes between two exceptions."""


class Plans:
    """Runs plans; what a plan needs of earlier messages is put into it first."""

    def __init__(
        self, blobs: BlobStore, kept: KeptFilters, uploads: Uploads, running: RunningPlans
    ) -> None:
        self._blobs, self._kept = blobs, kept
        self._uploads, self._running = uploads, running

    async def run(
        self, plan: SerializedPlan, *, identity: str, client: JobClient, size_bytes: int
    ) -> bytes | Failed:
        """Run a plan to its end.

        Args:
            plan: As it came.
            identity: Whose filters and uploads it may refer to.
            client: Submits the job.
            size_bytes: Of the message that it came in.

        Returns:
            The JSON of a ``PlanResult`` in the plan's dialect, as a runner wrote it.
        """
        completed = self._kept.complete(identity, plan)
        resolved = await self._resolved(identity, completed)
        if isinstance(resolved, Failed):
            return resolved
        job_id = new_job_id()

        def stop() -> None:
            client.cancel(job_id, CANCELLED_REASON)

        with self._running.listed(identity, plan.plan_id, stop):
            result = await self.run_once(
                resolved, client=client, size_bytes=size_bytes, job_id=job_id
            )
        if isinstance(result, bytes) and isinstance(plan.mode, Fit):
            await self._learn(identity, completed, result)
        return result

    async def run_once(
        self, plan: SerializedPlan, *, client: JobClient, size_bytes: int, job_id: str
    ) -> bytes | Failed:
        """Run a plan that is complete in itself."""
        job = await self.job_of(plan, size_bytes=size_bytes, job_id=job_id, kind="plan")
        if isinstance(job, Failed):
            return job
        ending = await client.run(job)
        match ending:
            case Outcome(status="succeeded", result=found) if found is not None:
                try:
                    return await fetched(self._blobs, found)
                except BlobError as error:
                    return Failed(error=str(error), duration_ms=0)
            case _:
                return failed(ending)

    async def job_of(
        self, plan: SerializedPlan, *, size_bytes: int, job_id: str, kind: JobKind
    ) -> JobSpec | Failed:
        """Make a plan that is complete in itself a job, in the environment of all its filters."""
        lines = dict.fromkeys(line for each in plan.filters for line in each.requirements)
        try:
            text = await apart(size_bytes, lambda: encode_plan(plan))
            return JobSpec(
                job_id=job_id,
                kind=kind,
                payload=await stored(self._blobs, text),
                name=plan.plan_id[:200],
                environment=await environment_of(self._blobs, "\n".join(lines)),
            )
        except (UnencodableError, BlobError, RequirementsError) as error:
            return Failed(error=str(error), duration_ms=0)

    def complete(self, identity: str, plan: SerializedPlan) -> SerializedPlan:
        """Give a plan the filters that it names, does not bring, and earlier plans brought."""
        return self._kept.complete(identity, plan)

    async def _resolved(self, identity: str, plan: SerializedPlan) -> SerializedPlan | Failed:
        match plan.input:
            case ReferenceInput(data_ref=ref) if not isinstance(ref, InlineRef):
                try:
                    value = await self._uploads.value(identity, ref)
                except (ProtocolError, BlobError) as error:
                    return Failed(error=f"transport: {error}", duration_ms=0)
                if value is not None:
                    return plan.model_copy(update={"input": InlineInput(value=value)})
                error_text = (
                    f"transport: cannot resolve the input reference {ref.variant_name()}: only "
                    "what was uploaded here with the same token can be referred to"
                )
                return Failed(error=error_text, duration_ms=0)
            case _:
                return plan

    async def _learn(self, identity: str, plan: SerializedPlan, result: bytes) -> None:
        success = await apart(len(result), lambda: read_result(result))
        if isinstance(success, Success):
            self._kept.learn(identity, plan, success.states)


def new_job_id() -> str:
    """Name a job of the gateway; its client's own name for it need not be unique."""
    return f"seed-{secrets.token_hex(8)}"


def encode_plan(plan: SerializedPlan) -> bytes:
    """Write a plan so that who reads it tells its sender's dialect as we do.

    Raises:
        UnencodableError: It came as msgpack, and holds what JSON cannot carry.
    """
    dialect: Dialect = dialect_of(plan)
    return encode_json(plan.to_wire("A" if dialect == "unknown" else dialect)).encode()


def read_result(result: bytes) -> PlanResult:
    """Read what a runner wrote; user code in the same process may have spoilt it."""
    try:
        return read_plan_result(decode_json(result))
    except ProtocolError as error:
        return Failed(error=f"the result cannot be read: {error.reason}", duration_ms=0)


def failed(ending: Ending) -> Failed:
    """Say why a job has no result, the way upstream's workers do."""
    match ending:
        case Refused(message=message):
            return Failed(error=message, duration_ms=0)
        case Outcome():
            return Failed(error=_why(ending), duration_ms=int(1000 * (ending.run_s or 0.0)))


def _why(outcome: Outcome) -> str:
    failure = outcome.failure
    if outcome.status == "cancelled":
        return "cancelled"
    if failure is None:
        return outcome.reason or "the job has no result"
    if failure.type_name.endswith(_USERS_FAULTS):
        return f"{failure.message}\nPython error: {_filters_own(failure.traceback)}"
    return failure.message


def _filters_own(traceback: str) -> str:
    """Leave out how what the filter raised was told on: the message says that."""
    head, caused, tail = traceback.rpartition(_CAUSED)
    while caused and any(f"{name}: " in tail for name in _USERS_FAULTS):
        traceback = head
        head, caused, tail = traceback.rpartition(_CAUSED)
    return traceback
