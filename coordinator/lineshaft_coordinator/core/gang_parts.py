"""What a job that runs on several workers consists of."""

from dataclasses import dataclass, field

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import GangPart, JobSpec
from lineshaft_protocol.outcomes import Failure, Outcome


@dataclass(slots=True)
class Gang:
    """A job that runs on several workers at once, see gangs."""

    members: tuple[JobId, ...]
    """The jobs of its ranks, in order."""
    ended: dict[JobId, Outcome] = field(default_factory=dict)
    """Ranks that succeeded in this round, while others run."""
    is_broken: bool = False
    """It runs and must end."""
    reason: str = ""
    failure: Failure | None = None

    @property
    def lead_id(self) -> JobId:
        """The job that was submitted."""
        return self.members[0]

    @property
    def size(self) -> int:
        """On how many workers it runs."""
        return len(self.members)

    def start_over(self) -> None:
        """Forget the round that is over."""
        self.ended.clear()
        self.is_broken, self.reason, self.failure = False, "", None

    def outcome_of_part(self, job_id: JobId, attempt: int, outcome: Outcome) -> Outcome:
        """How a part ends whose gang ended so."""
        ended = self.ended.get(job_id)
        if ended is not None and outcome.status == "succeeded":
            return ended
        reason = f"job {self.lead_id}, of which it is a part, ended as {outcome.status}"
        return Outcome(job_id=job_id, status="cancelled", attempt=attempt, reason=reason)


def part_id(lead_id: JobId, rank: int) -> JobId:
    """The job of another rank than 0."""
    return JobId(f"{lead_id}.rank{rank}")


def parts_of(spec: JobSpec) -> list[JobSpec]:
    """The jobs of a gang's other ranks: as the lead, but they wait for nothing by themselves."""
    timeouts = spec.timeouts
    if timeouts is not None:
        timeouts = timeouts.model_copy(update={"queue_s": None})
    return [
        spec.model_copy(
            update={
                "job_id": part_id(JobId(spec.job_id), rank),
                "nodes": None,
                "part": GangPart(job_id=spec.job_id, rank=rank),
                "after": None,
                "retries": 0,
                "timeouts": timeouts,
            }
        )
        for rank in range(1, spec.nodes or 1)
    ]
