"""One face for both sorts of runs: what programs report, and Lineshaft's own jobs."""

from collections.abc import Awaitable, Callable, Mapping

from pydantic import JsonValue

from lineshaft_coordinator.feeds.hub import Hub
from lineshaft_coordinator.server.admission import Grant
from lineshaft_coordinator.server.questions import UnknownJobError
from lineshaft_coordinator.training_runs.book import RunBook
from lineshaft_coordinator.training_runs.job_runs import JobRuns
from lineshaft_coordinator.training_runs.logs import RunLogs
from lineshaft_coordinator.training_runs.reported import NewRun, ReportedRuns, RunView
from lineshaft_coordinator.training_runs.words import Status
from lineshaft_protocol.ids import JobId

METRICS_MAX = 10_000

Cancel = Callable[[JobId, str], Awaitable[None]]
"""Asks for the end of a job, with a reason."""


class RunError(Exception):
    """What was asked about a run cannot be answered; with an HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class RunDesk:
    """Answers for runs, and lets everybody see and change only what is theirs.

    A reported run belongs to the token that made it, one of Lineshaft's jobs to the token that
    submitted it. Admins see and change all. Viewers, who change nothing, see all jobs, as they do
    everywhere else, and no reported runs: those are told to this interface alone.
    """

    def __init__(self, book: RunBook, jobs: JobRuns, job_hub: Hub, cancel: Cancel) -> None:
        self._book, self._jobs, self._job_hub, self._cancel = book, jobs, job_hub, cancel
        self.reported = ReportedRuns(book)
        self._logs = RunLogs(book.folder / "runs")

    def hub_of(self, run_id: str, grant: Grant) -> Hub:
        """Whose feed it is, at once.

        Raises:
            RunError: It belongs to somebody else.
            BookError: Nobody can tell whose it is.
        """
        owner = self._book.owner_of(run_id)
        if owner is None:
            if _sees_its_own(grant):
                _check_job(self._jobs.owner_of(run_id), grant)
            return self._job_hub
        check_owner(owner, grant)
        return self.reported.hub

    async def create(self, grant: Grant, new: NewRun) -> RunView:
        """Begin a reported run."""
        return await self.reported.create(new, user_id=grant.token_id)

    async def listed(
        self, grant: Grant, *, status: Status | None, limit: int, offset: int
    ) -> list[RunView]:
        """Runs of both sorts, the newest first."""
        user_id = None if grant.may("see_all") else grant.token_id
        count = limit + offset
        runs = await self.reported.listed(user_id=user_id, status=status, limit=count)
        owner = grant.token_id if _sees_its_own(grant) else ""
        runs += await self._jobs.listed(owner=owner, status=status, limit=count)
        runs.sort(key=lambda run: str(run["created_at"]), reverse=True)
        return runs[offset:count]

    async def get(self, grant: Grant, run_id: str) -> RunView:
        """One run.

        Raises:
            RunError: There is none, or it belongs to somebody else.
        """
        run = await self._own(grant, run_id)
        return run if run is not None else await self._job(grant, run_id)

    async def delete(self, grant: Grant, run_id: str) -> None:
        """Forget a reported run, with its metrics and logs."""
        if await self._own(grant, run_id) is None:
            await self._job(grant, run_id)
            raise RunError(409, f"{run_id} is a job of Lineshaft; its history is pruned by age")
        await self.reported.delete(run_id)
        await self._logs.delete(run_id)

    async def stop(self, grant: Grant, run_id: str) -> RunView:
        """End a run as stopped; one that has ended stays as it is."""
        if await self._own(grant, run_id) is not None:
            return _known(await self.reported.end(run_id, "stopped"), run_id)
        await self._job(grant, run_id)
        await self._cancel(JobId(run_id), "stopped over HTTP")
        return await self._job(grant, run_id)

    async def complete(self, grant: Grant, run_id: str, *, success: bool) -> RunView:
        """End a reported run; one that has ended stays as it is."""
        await self._own_reported(grant, run_id)
        status: Status = "completed" if success else "failed"
        return _known(await self.reported.end(run_id, status), run_id)

    async def record(
        self, grant: Grant, run_id: str, values: Mapping[str, JsonValue], custom: JsonValue
    ) -> RunView:
        """Keep metrics of a reported run."""
        await self._own_reported(grant, run_id)
        return _known(await self.reported.record(run_id, values, custom), run_id)

    async def metrics(self, grant: Grant, run_id: str) -> list[JsonValue]:
        """What a run recorded, in order; the first 10,000."""
        if await self._own(grant, run_id) is not None:
            return await self.reported.metrics(run_id, limit=METRICS_MAX)
        await self._job(grant, run_id)
        return await self._jobs.metrics(run_id, limit=METRICS_MAX)

    async def log(self, grant: Grant, run_id: str, level: str, message: str) -> JsonValue:
        """Keep a line of a reported run's log."""
        await self._own_reported(grant, run_id)
        return await self._logs.append(run_id, level, message)

    async def logs(self, grant: Grant, run_id: str, *, offset: int, limit: int) -> list[JsonValue]:
        """Lines of a run's log, or of a job's output."""
        if await self._own(grant, run_id) is not None:
            return await self._logs.read(run_id, offset=offset, limit=limit)
        await self._job(grant, run_id)
        return await self._jobs.logs(run_id, offset=offset, limit=limit)

    @property
    def hub(self) -> Hub:
        """Who looks at reported runs."""
        return self.reported.hub

    async def _own(self, grant: Grant, run_id: str) -> RunView | None:
        run = await self.reported.get(run_id)
        if run is not None:
            check_owner(str(run["user_id"]), grant)
        return run

    async def _own_reported(self, grant: Grant, run_id: str) -> None:
        if await self._own(grant, run_id) is None:
            await self._job(grant, run_id)
            raise RunError(409, f"{run_id} is a job of Lineshaft, which reports by itself")

    async def _job(self, grant: Grant, run_id: str) -> RunView:
        if _sees_its_own(grant):
            _check_job(await self._jobs.owner(run_id), grant)
        try:
            return await self._jobs.get(run_id)
        except UnknownJobError as error:
            raise RunError(404, f"there is no run {run_id}") from error


def check_owner(owner: str, grant: Grant, what: str = "run") -> None:
    """Let see only who made it, and admins.

    Raises:
        RunError: Somebody else asks.
    """
    if not grant.may("see_all") and owner != grant.token_id:
        raise RunError(403, f"this {what} belongs to another token")


def _check_job(owner: str | None, grant: Grant) -> None:
    if owner is not None:  # Else there is no such job, which is told by who looks for it.
        check_owner(owner, grant)


def _sees_its_own(grant: Grant) -> bool:
    """Whether somebody sees no jobs but those of the same token."""
    return grant.may("submit") and not grant.may("see_all")


def _known(run: RunView | None, run_id: str) -> RunView:
    if run is None:
        raise RunError(404, f"there is no run {run_id}")
    return run
