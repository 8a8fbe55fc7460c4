"""What clients do to trainings: pause, resume, cancel, start at once, look again."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from pydantic import JsonValue

from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.finetune.checkpoints import checkpoints_of
from lineshaft_coordinator.finetune.execution import LINE_ID
from lineshaft_coordinator.finetune.follower import Follower
from lineshaft_coordinator.finetune.following import Following
from lineshaft_coordinator.finetune.points import stamp
from lineshaft_coordinator.finetune.views import View, progress_of
from lineshaft_coordinator.finetune.words import TERMINAL
from lineshaft_protocol.ids import JobId

CANCEL_WAIT_S: Final = 15.0
"""How long the answer waits for the end; SIGKILL comes after the worker's grace."""
RESUME_WAIT_S: Final = 5.0
SHOWN_MAX: Final = 1000


class WrongStateError(Exception):
    """The training is where this cannot be done; nothing was changed."""


class Hands(Protocol):
    """What may be done to a job."""

    async def cancel(self, job_id: JobId, reason: str) -> None:
        """Ask for the end of a job."""
        ...

    async def pause(self, job_id: JobId, reason: str, *, freeze: bool) -> None:
        """Ask a job to pause."""
        ...

    async def resume(self, job_id: JobId, *, checkpoint: str | None = None) -> None:
        """Let a job go on, from the file of this id if it is given."""
        ...


Retry = Callable[[JobId, str], Awaitable[JobId]]
Files = Callable[[JobId], Awaitable[list[JsonValue]]]


class Controls:
    """Acts on trainings, and waits for what comes of it without holding up anything else."""

    def __init__(
        self,
        follower: Follower,
        shop: Shop,
        hands: Hands,
        retry: Retry,
        files: Files,
        *,
        pause_s: float,
    ) -> None:
        self._follower, self._shop, self._hands = follower, shop, hands
        self._retry, self._files, self._pause_s = retry, files, pause_s

    async def pause(self, job_id: str) -> View:
        """Have a training save and end; answered once it has.

        Raises:
            WrongStateError: It does not run, or did not save in time and goes on.
        """
        following = await self._follower.of(job_id)
        before = following.status
        if before not in ("running", "pending"):
            raise WrongStateError(f"Cannot pause job {job_id}: it is {before}, not running")
        answer = await self._follower.line.pause(job_id, self._pause_s)
        if answer.error is not None:
            raise WrongStateError(f"Job {job_id} was not paused and goes on: {answer.error}")
        step = answer.data.get("step") if isinstance(answer.data, dict) else None
        saved = (
            "it saved no checkpoint yet" if step is None else f"its checkpoint is of step {step}"
        )
        return {
            "success": True,
            "job_id": job_id,
            "previous_status": before,
            "paused_at": stamp(time.time()),
            "step": step,
            "message": f"Training paused; {saved}",
        }

    async def resume(self, job_id: str, checkpoint_path: str | None) -> View:
        """Let a paused training go on, as the same job.

        Raises:
            WrongStateError: It is not paused, or has no such checkpoint.
        """
        following = await self._follower.of(job_id)
        before = following.status
        if before != "paused":
            raise WrongStateError(f"Cannot resume job {job_id}: it is {before}, not paused")
        found = checkpoints_of(await self._files(JobId(job_id)), following.fold)
        folder, wanted = self._follower.folder_of(job_id), None
        if checkpoint_path is not None:
            name = checkpoint_path.rstrip("/").rpartition("/")[2]
            wanted = next((each for each in found if each.label == name), None)
            if wanted is None:
                kept = ", ".join(each.label for each in found) or "none"
                text = f"Job {job_id} has no checkpoint {checkpoint_path[:200]}; it has: {kept}"
                raise WrongStateError(text)
        file_id = wanted.file.file_id if wanted is not None else None
        await self._hands.resume(JobId(job_id), checkpoint=file_id)
        await following.until(lambda: following.status != "paused", RESUME_WAIT_S)
        chosen = wanted or max(found, key=lambda each: each.file.at, default=None)
        where = f"from {chosen.label}" if chosen is not None else "from its beginning"
        return {
            "success": True,
            "job_id": job_id,
            "previous_status": before,
            "checkpoint_path": str(folder / chosen.label) if chosen is not None else None,
            "queue_position": self._position(job_id),
            "message": f"Training resumes {where}",
        }

    async def cancel(self, job_id: str) -> View:
        """End a training, wherever it is; answered once it has ended, or after some seconds.

        Raises:
            WrongStateError: It has ended already.
        """
        following = await self._follower.of(job_id)
        before = following.status
        if before in TERMINAL:
            raise WrongStateError(f"Cannot cancel job {job_id}: it is {before} already")
        await self._hands.cancel(JobId(job_id), "cancelled by its user")
        is_over = await following.until(lambda: following.status in TERMINAL, CANCEL_WAIT_S)
        if is_over and following.status != "cancelled":
            raise WrongStateError(f"Job {job_id} ended as {following.status} before")
        text = "Training cancelled" if is_over else "Training is being ended by its worker"
        return {
            "success": True,
            "job_id": job_id,
            "previous_status": before,
            "status": following.status,
            "message": text,
        }

    async def force_start(self, job_id: str, owner: str) -> View:
        """Put a waiting training first in the line; run an ended one again, as a new job.

        Args:
            job_id: The training.
            owner: Id of the token of who asks: whose the new job is.

        Raises:
            WrongStateError: It runs, is paused, or is completed.
            RetryRefusedError: It cannot be done again.
        """
        following = await self._follower.of(job_id)
        before, new_id = following.status, job_id
        match before:
            case "queued":
                # Who is resumed goes to the front of its line.
                await self._hands.pause(JobId(job_id), "put first in the line", freeze=False)
                await self._hands.resume(JobId(job_id))
                text = "Training is next in the line"
            case "pending":
                text = "Training is being started already"
            case "failed" | "cancelled":
                new_id = await self._retry(JobId(job_id), owner)
                await self._follower.of(new_id)
                text = f"An ended job never changes: it runs again as job {new_id}"
            case _:
                raise WrongStateError(f"Cannot force-start job {job_id}: it is {before}")
        return {
            "success": True,
            "job_id": new_id,
            "original_job_id": job_id,
            "previous_status": before,
            "message": text,
        }

    async def reconnect(self) -> View:
        """Look for live trainings that are not followed; there are none unless we have a bug."""
        before = self._follower.live()
        running_before = _running(before)
        found = await self._follower.refresh()
        after = self._follower.live()
        workers = len(self._shop.fleet.by_session)
        return {
            "success": True,
            "message": f"{len(after)} trainings are followed; {workers} workers are connected",
            "jobs_before": len(before),
            "jobs_after": len(after),
            "running_before": running_before,
            "running_after": _running(after),
            "reconnected": found,
        }

    def queue(self) -> View:
        """The trainings that run, and those that wait, the next first."""
        live = {each.job_id: each for each in self._follower.live() if each.has_files}
        running: list[JsonValue] = [
            {
                "job_id": each.job_id,
                "name": each.request.name,
                "progress": progress_of(each.fold, each.standing()),
                "current_epoch": each.fold.current_epoch or 0,
                "total_epochs": each.fold.total_epochs or 0,
            }
            for each in live.values()
            if each.status == "running"
        ]
        order = self._order()
        waiting = [live[job_id] for job_id in order if job_id in live]
        waiting = [each for each in waiting if each.status in ("queued", "pending")]
        queued: list[JsonValue] = [
            {
                "job_id": each.job_id,
                "name": each.request.name,
                "position": position,
                "status": each.status,
            }
            for position, each in enumerate(waiting[:SHOWN_MAX], start=1)
        ]
        return {
            "running_count": len(running),
            "queued_count": len(waiting),
            "running_jobs": running,
            "queued_jobs": queued,
            "queue_active": not self._shop.is_stopping,
        }

    def _order(self) -> list[JobId]:
        arrays, line = self._shop.arrays, f"line/{LINE_ID}"
        return [*arrays.under_way(line), *arrays.waiting(line)]

    def _position(self, job_id: str) -> int:
        """Its place among those that wait, from 1; 0 if it does not."""
        waiting = self._shop.arrays.waiting(f"line/{LINE_ID}")
        return waiting.index(JobId(job_id)) + 1 if job_id in waiting else 0


def _running(followed: list[Following]) -> int:
    return sum(each.status == "running" for each in followed)
