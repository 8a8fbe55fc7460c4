"""Alerts: what happens to trainings, posted to an address of the operator's and forgotten."""

import asyncio
import json
import logging
import time
from typing import Final, Literal, TypeAlias

from lineshaft_coordinator.finetune.follower import Moved
from lineshaft_coordinator.finetune.following import Following, error_of, is_gpu_oom
from lineshaft_coordinator.finetune.views import View, progress_of
from lineshaft_coordinator.finetune.words import TERMINAL
from lineshaft_coordinator.strict_json import strict

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
WAITING_MAX: Final = 1000
"""More that wait for a slow address are dropped."""
WARN_SHARE: Final = 0.5
"""A training that was silent for so much of its time-out is warned of."""

AlertType: TypeAlias = Literal[
    "job_started", "job_completed", "job_failed", "job_cancelled", "gpu_oom", "timeout_warning"
]


class Alerts:
    """Posts alerts, one after the other.

    Args:
        url: Where to; None: nobody wants them.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._queue: asyncio.Queue[View] = asyncio.Queue(WAITING_MAX)
        self._warned: set[str] = set()

    async def run(self) -> None:
        """Post what waits, until cancelled."""
        while True:
            alert = await self._queue.get()
            try:
                await asyncio.to_thread(_post, self._url or "", alert)
            except (OSError, ValueError) as error:
                fields = {"job_id": alert["job_id"], "type": alert["type"], "why": str(error)}
                logger.warning("an alert could not be posted", extra=fields)

    def hear(self, moved: Moved) -> None:
        """A training is somewhere else now, or has ended."""
        following = moved.following
        if following.status in TERMINAL:
            self._warned.discard(following.job_id)
        match following.status:
            case "running" if moved.before in ("queued", "pending") and _is_first(following):
                self._put("job_started", following)
            case "completed":
                self._put("job_completed", following)
            case "cancelled":
                self._put("job_cancelled", following)
            case "failed":
                failure = following.story.outcome.failure if following.story.outcome else None
                self._put("gpu_oom" if is_gpu_oom(failure) else "job_failed", following)
            case _:
                pass

    def look(self, following: Following) -> None:
        """Warn once of a training that has been silent for long."""
        timeouts = following.story.spec.timeouts
        limit_s = timeouts.silence_s if timeouts is not None else None
        if following.status != "running" or limit_s is None or following.heard_at is None:
            return
        is_silent = time.monotonic() - following.heard_at > WARN_SHARE * limit_s
        if not is_silent:
            self._warned.discard(following.job_id)
        elif following.job_id not in self._warned:
            self._warned.add(following.job_id)
            self._put("timeout_warning", following)

    def _put(self, kind: AlertType, following: Following) -> None:
        if self._url is None:
            return
        try:
            self._queue.put_nowait(alert_of(kind, following))
        except asyncio.QueueFull:
            fields = {"job_id": following.job_id, "type": kind}
            logger.warning("an alert was dropped: too many wait", extra=fields)


def alert_of(kind: AlertType, following: Following) -> View:
    """What is posted."""
    fold, standing, request = following.fold, following.standing(), following.request
    outcome = following.story.outcome
    failure = outcome.failure if outcome is not None else None
    model = request.config.get("model")
    names = (request.config, model if isinstance(model, dict) else {})
    base = next((each[key] for each in names for key in _BASE if each.get(key)), None)
    return {
        "type": kind,
        "job_id": following.job_id,
        "user_id": request.user_id,
        "model_name": request.name,
        "base_model": base,
        "status": standing.status,
        "progress": progress_of(fold, standing),
        "current_step": fold.current_step,
        "total_steps": fold.total_steps,
        "loss": fold.value("train_loss"),
        "duration": int(1000 * standing.elapsed_s),
        "error_message": error_of(outcome, following.story.spec),
        "error_type": (failure.type_name or failure.cause) if failure is not None else None,
    }


_BASE: Final = ("base_model", "model_name", "name")


def _is_first(following: Following) -> bool:
    return following.story.attempt <= 1


def _post(url: str, alert: View) -> None:
    from http.client import HTTPException  # noqa: PLC0415 - as below
    from urllib.request import Request, urlopen  # noqa: PLC0415 - few coordinators post alerts

    if not url.startswith(("http://", "https://")):
        raise ValueError(f"alert_url must begin with http:// or https://, not {url[:40]!r}")
    body = json.dumps(strict(alert), allow_nan=False).encode()
    request = Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - checked
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
            answer.read(1024)
    except HTTPException as error:
        raise OSError(f"it did not answer in HTTP: {error!r}") from error
