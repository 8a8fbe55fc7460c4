"""Python jobs of seed clients as jobs of kind ``pipeline``, told of while they run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import JsonValue

from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.gateway.job_client import Ending, JobClient
from lineshaft_coordinator.gateway.payloads import apart, environment_of, stored
from lineshaft_coordinator.gateway.plans import CANCELLED_REASON, failed, new_job_id
from lineshaft_coordinator.gateway.printed import last_document
from lineshaft_coordinator.gateway.running_plans import RunningPlans
from lineshaft_coordinator.strict_json import finite, strict
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.seed import JobProgress, JobResult, PythonPipelineJob, encode
from lineshaft_runtime.bundles import BundleError, PipelineBundle, encode_bundle
from lineshaft_runtime.packing import pack_bytes
from lineshaft_runtime.requirements import RequirementsError
from lineshaft_runtime.told_params import told_params

PHASES = ("environment", "write_files", "execute", "collect_results")
OUTPUT_CHARACTERS_MAX = 8 * 1024 * 1024
"""Of each stream; of more than this the last part is told."""
_U32_MAX = 2**32 - 1

Say = Callable[[str], None]


class PythonJobs:
    """Runs folders of Python files."""

    def __init__(self, blobs: BlobStore, running: RunningPlans, worker_id: str) -> None:
        self._blobs, self._running, self._worker_id = blobs, running, worker_id

    async def run(
        self, job: PythonPipelineJob, *, identity: str, client: JobClient, say: Say
    ) -> None:
        """Run a job to its end, and say how far it is, and how it ended.

        A job goes on when its client leaves: it may be the work of days.
        """
        told = _Told(job.job_id, self._worker_id, say)
        told.reach("environment")
        started_at = time.monotonic()
        try:
            size_bytes = sum(len(each.content) for each in job.files)
            bundle = await apart(size_bytes, lambda: encode_bundle(bundle_of(job)))
            payload = await stored(self._blobs, bundle)
            wanted = await environment_of(self._blobs, job.requirements)
        except (BundleError, BlobError, RequirementsError) as error:
            told.end(success=False, metrics={}, output=f"STDERR:\n{error}\nSTDOUT:\n", run_s=0.0)
            return
        spec = JobSpec(
            job_id=new_job_id(),
            kind="pipeline",
            payload=payload,
            name=job.job_id[:200],
            params=told_params(job.params) if isinstance(job.params, dict) else None,
            environment=wanted,
        )

        def stop() -> None:
            client.cancel(spec.job_id, CANCELLED_REASON)

        with self._running.listed(identity, job.job_id, stop):
            ending = await client.run(spec, on_told=told.hear, is_kept=True)
        run_s = ending.run_s if isinstance(ending, Outcome) else 0.0
        printed = told.stdout()
        metrics = await apart(len(printed), lambda: last_document(printed))
        told.finish(ending, metrics, time.monotonic() - started_at if run_s is None else run_s)


@dataclass(slots=True)
class _Output:
    """What a job wrote to one of its streams, as far as it is kept."""

    pieces: list[str] = field(default_factory=list[str])
    size: int = 0

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.size += len(text)
        if self.size > 2 * OUTPUT_CHARACTERS_MAX:
            self.pieces = [self.text()]
            self.size = len(self.pieces[0])

    def text(self) -> str:
        return "".join(self.pieces)[-OUTPUT_CHARACTERS_MAX:]


class _Told:
    """What a client has been told of its job, and what it will be told at the end."""

    def __init__(self, job_id: str, worker_id: str, say: Say) -> None:
        self._job_id, self._worker_id, self._say = job_id, worker_id, say
        self._reached = 0
        self._attempt = 0
        self._stdout, self._stderr = _Output(), _Output()
        self._progress: tuple[str, int, int] = ("execute", 0, 0)

    def reach(self, phase: str) -> None:
        """Say that a phase begins, and those before it if they have not been said to."""
        while self._reached <= PHASES.index(phase):
            name = PHASES[self._reached]
            self._reached += 1
            self._tell(name, self._reached, len(PHASES), {})

    def hear(self, told: StateChanged | JobEvent) -> None:
        """Pass on what the job's user may want to know now; keep the rest."""
        match told:
            case StateChanged(state="assigned"):
                self.reach("write_files")
            case StateChanged(state="running"):
                self.reach("execute")
            case StateChanged():
                pass
            case JobEvent(attempt=attempt, kind=kind, body=body):
                if attempt > self._attempt:  # What a lost worker's attempt said does not count.
                    self._attempt, self._stdout, self._stderr = attempt, _Output(), _Output()
                self._on_event(kind, body)

    def stdout(self) -> str:
        """What the job printed, or the end of it."""
        return self._stdout.text()

    def finish(self, ending: Ending, metrics: JsonValue, run_s: float) -> None:
        """Say how the job ended."""
        is_success = isinstance(ending, Outcome) and ending.status == "succeeded"
        stdout, stderr = self._stdout.text(), self._stderr.text()
        if is_success:
            self.end(success=True, metrics=metrics, output=stdout, run_s=run_s)
            return
        if not _is_of_its_code(ending):
            stderr += f"{failed(ending).error}\n"
        output = f"STDERR:\n{stderr}\nSTDOUT:\n{stdout}"
        self.end(success=False, metrics=metrics, output=output, run_s=run_s)

    def end(self, *, success: bool, metrics: JsonValue, output: str, run_s: float) -> None:
        """Say the last word."""
        self.reach("collect_results")
        result = JobResult(
            worker_id=self._worker_id,
            job_id=self._job_id,
            success=success,
            metrics=metrics,
            output=output,
            duration_ms=int(1000 * run_s),
        )
        self._say(encode(result))

    def _on_event(self, kind: str, body: dict[str, JsonValue]) -> None:
        match kind, body:
            case "log", {"text": str(text), **rest}:
                (self._stderr if rest.get("stream") == "stderr" else self._stdout).add(text)
            case "progress", {"is_preparing": True}:
                pass  # Its environment is made: that phase was told.
            case "progress", {"step": step, **rest}:
                phase = rest.get("phase")
                self._progress = (
                    phase if isinstance(phase, str) and phase else "execute",
                    _count(step),
                    _count(rest.get("total")),
                )
                self.reach("execute")
                self._tell(*self._progress, {})
            case "metrics", {"metrics": metrics}:
                self.reach("execute")
                self._tell(*self._progress, strict(metrics))
            case _:
                pass

    def _tell(self, phase: str, step: int, total: int, metrics: JsonValue) -> None:
        progress = JobProgress(
            worker_id=self._worker_id,
            job_id=self._job_id,
            phase=phase,
            step=step,
            total=total,
            metrics=metrics,
        )
        self._say(encode(progress))


def _is_of_its_code(ending: Ending) -> bool:
    """Whether the job's own code chose this end: then its output says what there is to say."""
    failure = ending.failure if isinstance(ending, Outcome) else None
    return failure is not None and failure.cause in ("exception", "exit")


def bundle_of(job: PythonPipelineJob) -> PipelineBundle:
    """Make a job's files and data what our runners take."""
    return PipelineBundle(
        files=tuple((each.path, each.content.encode()) for each in job.files),
        requirements=(),
        entry_point=job.entry_point,
        input_data=None if job.input_data is None else pack_bytes(job.input_data),
        params=pack_bytes({} if job.params is None else job.params),
    )


def _count(value: JsonValue) -> int:
    """Read a number that a job reported; upstream's clients know only whole ones."""
    if not isinstance(value, int | float) or finite(value) is None:
        return 0
    return min(max(int(value), 0), _U32_MAX)
