"""The training server: everything behind its routes, over one coordinator's jobs."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from pydantic import JsonValue

from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.finetune import analytics, failures
from lineshaft_coordinator.finetune.alerts import Alerts
from lineshaft_coordinator.finetune.checkpoints import Checkpoint, checkpoints_of, checkpoints_view
from lineshaft_coordinator.finetune.controls import Controls, Hands
from lineshaft_coordinator.finetune.execution import Execute, Trainer
from lineshaft_coordinator.finetune.files import TrainingFiles
from lineshaft_coordinator.finetune.follower import Follower
from lineshaft_coordinator.finetune.following import Following
from lineshaft_coordinator.finetune.line import CLIENT_ID
from lineshaft_coordinator.finetune.live import LiveFeeds
from lineshaft_coordinator.finetune.log_pages import LogPage, last_lines, log_page
from lineshaft_coordinator.finetune.machine import Curves, with_machine
from lineshaft_coordinator.finetune.scribe import Scribe
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.finetune.trying import Trying
from lineshaft_coordinator.finetune.unpacking import losses_in
from lineshaft_coordinator.finetune.views import View
from lineshaft_coordinator.finetune.words import Status, status_of
from lineshaft_coordinator.server.questions import Questions
from lineshaft_coordinator.server.retrying import Retries
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_coordinator.store.interface import Store
from lineshaft_protocol.client_messages import Refused
from lineshaft_protocol.ids import JobId, is_name

logger = logging.getLogger(__name__)

SUMMARY_KEPT_S: Final = 30.0
SUMMARY_JOBS_MAX: Final = 500
"""The last trainings whose figures are taken together; all are counted."""
LOOK_EVERY_S: Final = 5.0
TIDY_EVERY_S: Final = 3600.0
ERROR_LINES: Final = 2000
PAGE_ROWS: Final = 500


class TrainingRefusedError(Exception):
    """A training was not kept; ``code`` is as in ``Refused``."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.code = refused.code


class House(Protocol):
    """What the training server needs of the daemon."""

    sessions: Sessions
    questions: Questions
    retries: Retries

    @property
    def store(self) -> Store:
        """Where events and records lie."""
        ...

    @property
    def shop(self) -> Shop:
        """The core's state, for reading."""
        ...

    def blob_file(self, blob_id: str) -> Path | None:
        """Where a blob lies; None if it is not here."""
        ...


class TrainingServer:
    """Takes trainings in, and answers about them.

    Args:
        settings: As the operator set it up.
        data: The coordinator's folder.
        house: The daemon.
        blobs: Where payloads are put.
        hands: What may be done to jobs.
        machine: Tells how the machine of a job was; None if nobody knows.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: Path,
        house: House,
        blobs: BlobStore,
        hands: Hands,
        *,
        machine: Callable[[str], Awaitable[Curves]] | None = None,
    ) -> None:
        self.settings, self._house, self._machine = settings, house, machine
        self.files = TrainingFiles(settings.folder or data / "training", settings)
        self.trainer = Trainer(settings, blobs, data)
        self._alerts = Alerts(settings.alert_url)
        unpack = house.blob_file if settings.unpack_checkpoints else None
        scribe = Scribe(self.files, house.store, unpack)
        self.follower = Follower(
            house.sessions, house.shop, house.store, blobs, scribe, self._alerts.hear
        )
        self.feeds = LiveFeeds(self.follower)
        self.controls = Controls(
            self.follower,
            house.shop,
            hands,
            self._retry,
            house.questions.files,
            pause_s=settings.pause_s,
        )
        self._summary: tuple[float, View] | None = None

    async def run(self) -> None:
        """Follow trainings until cancelled; raises nothing."""
        go_on = Trying().until_done
        await asyncio.gather(
            self.follower.run(),
            go_on("alerts are not posted", self._alerts.run),
            go_on("silent trainings are not looked for", self._look),
            go_on("files of trainings cannot be removed", self._tidy),
        )

    def reach_at(self, host: str, port: int, *, is_tls: bool) -> None:
        """Say where trainers reach us."""
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104
        shown = f"[{name}]" if ":" in name else name
        self.trainer.url = f"{'https' if is_tls else 'http'}://{shown}:{port}/api/training"

    def close(self) -> None:
        """The coordinator stops: let all viewers go."""
        self.feeds.close()

    # --- in ---

    async def execute(self, execute: Execute, owner: str) -> View:
        """Take a training in, for the token of this id.

        Raises:
            TrainingRefusedError: It was not kept.
            LineshaftError: There is no trainer that could be run, or it cannot be stored.
        """
        job = await self.trainer.job(execute)
        refused = await self.follower.line.submit(job, owner)
        if refused is not None:
            raise TrainingRefusedError(refused)
        job_id = execute.execution_id
        request: JsonValue = {**execute.model_dump(mode="json", exclude={"dataset_content"})}
        try:
            # Beside the job, for people: what counts is what the job itself carries.
            await asyncio.to_thread(self.files.keep_request, job_id, request, execute.dataset)
        except OSError as error:
            fields = {"job_id": job_id, "why": str(error)}
            logger.warning("the files of a training cannot be written", extra=fields)
        await self.follower.of(job_id)
        return {
            "job_id": job_id,
            "status": "queued",
            "message": f"Training job {job_id} is queued",
        }

    def knows(self, job_id: str) -> bool:
        """Whether there is such a training, as far as that can be said at once."""
        if not is_name(job_id):
            return False
        ledger = self._house.shop.ledger
        if JobId(job_id) in ledger.jobs or JobId(job_id) in ledger.recent:
            return True
        return self.files.has(job_id)

    # --- out ---

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The checkpoints that are kept, the newest step first."""
        following = await self.follower.of(job_id)
        files = await self._house.questions.files(JobId(job_id))
        found = checkpoints_of(files, following.fold)
        return await asyncio.to_thread(self._with_losses, job_id, found)

    def _with_losses(self, job_id: str, found: list[Checkpoint]) -> list[Checkpoint]:
        """Add what a trainer library wrote into checkpoints that the job said nothing of."""
        folder, name = self.files.logs(job_id), self.settings.trainer_state_filename
        return [
            replace(each, saved=losses_in(folder / each.label, name) or each.saved)
            if each.saved.eval_loss is None
            else each
            for each in found
        ]

    async def checkpoints_view(self, job_id: str) -> View:
        """The same for clients."""
        found = await self.checkpoints(job_id)
        return checkpoints_view(job_id, found, self.files.logs(job_id))

    async def kept_files(self, job_id: str) -> list[JsonValue]:
        """All checkpoints and artifacts."""
        return await self._house.questions.files(JobId(job_id))

    def blob_file(self, blob_id: str) -> Path | None:
        """Where a blob lies; None if it is not here."""
        return self._house.blob_file(blob_id)

    async def logs(self, job_id: str, limit: int, offset: int) -> LogPage:
        """Lines that a training printed."""
        following = await self.follower.of(job_id)
        await self.follower.catch_up(following)
        return await asyncio.to_thread(log_page, self.files.log(job_id), limit, offset)

    async def errors(self, job_id: str) -> View:
        """What went wrong."""
        following = await self.follower.of(job_id)
        await self.follower.catch_up(following)
        records = await self._house.store.records_of(job_id)
        lines = await asyncio.to_thread(last_lines, self.files.log(job_id), ERROR_LINES)
        return failures.errors_view(job_id, records, lines, following.standing().error)

    async def analytics(self, job_id: str) -> View:
        """What a training cost and reached."""
        following = await self.follower.of(job_id)
        view = analytics.analytics_view(following, await self.checkpoints(job_id))
        return view if self._machine is None else with_machine(view, await self._machine(job_id))

    async def summary(self) -> View:
        """All trainings together, at most half a minute old."""
        now = time.monotonic()
        if self._summary is not None and now - self._summary[0] < SUMMARY_KEPT_S:
            made_at, view = self._summary
            return {**view, "from_cache": True, "cache_age_seconds": round(now - made_at, 3)}
        view = await self._summarise()
        self._summary = now, view
        return {**view, "from_cache": False, "cache_age_seconds": 0}

    async def compare(self, job_ids: Sequence[str]) -> View:
        """Some trainings beside one another."""
        return analytics.compare_view([await self.follower.of(job_id) for job_id in job_ids])

    def health(self) -> View:
        """How the coordinator is, and which GPUs its workers have."""
        return self._house.questions.health()

    async def _summarise(self) -> View:
        counts: dict[str, int] = {}
        followed: list[Following] = []
        before: tuple[float, str] | None = None
        while True:
            rows = await self._house.store.rows(limit=PAGE_ROWS, client_id=CLIENT_ID, before=before)
            for row in rows:
                status: Status | None = status_of(row.status) if not row.is_live else None
                if len(followed) < SUMMARY_JOBS_MAX or status is None:
                    following = await self.follower.find(row.job_id)
                    if following is None:
                        continue
                    status = following.status
                    followed.append(following)
                counts[status] = counts.get(status, 0) + 1
            if len(rows) < PAGE_ROWS:
                return analytics.summary_view(counts, followed)
            before = rows[-1].submitted_at, rows[-1].job_id

    async def _retry(self, job_id: JobId, owner: str) -> JobId:
        return await self._house.retries.retry(job_id, None, client_id=CLIENT_ID, owner=owner)

    async def _tidy(self) -> None:
        """Remove the files of trainings that were pruned with the history."""
        while True:
            for job_id in await asyncio.to_thread(self.files.job_ids):
                if is_name(job_id) and await self._house.store.row_of(job_id) is None:
                    await asyncio.to_thread(self.files.remove, job_id)
            await asyncio.sleep(TIDY_EVERY_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for following in self.follower.live():
                self._alerts.look(following)
