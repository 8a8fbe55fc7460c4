"""One training that is followed: what it said, where it is, and who looks at it."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from lineshaft_coordinator.core.records import (
    AttemptStarted,
    FileKept,
    JobFinished,
    JobResumed,
    JobSubmitted,
)
from lineshaft_coordinator.finetune.checkpoints import label_of
from lineshaft_coordinator.finetune.fold import Fold
from lineshaft_coordinator.finetune.views import Request, Standing
from lineshaft_coordinator.finetune.words import Clock, Status, status_of
from lineshaft_coordinator.journal import read_record
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_runtime.bundles import decode_bundle

CONFIG_FILE = "job_config.json"
"""File of each training's bundle: its user, name and configuration."""
_CUDA_MEMORY = ("cuda out of memory", "cuda error: out of memory", "outofmemoryerror")


@dataclass(slots=True, kw_only=True)
class Story:
    """What the journal says of a job."""

    spec: JobSpec
    submitted_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    outcome: Outcome | None = None
    resumed_from: str | None = None
    checkpoints: dict[str, KeptFile] = field(default_factory=dict[str, KeptFile])
    """Those that are kept, by id, the oldest first."""

    @classmethod
    def of(cls, records: Sequence[tuple[int, float, bytes]]) -> "Story | None":
        """Read a job's records; None if there are none.

        Raises:
            UnreadableRecordError: One of them is none that this version knows.
        """
        story: Story | None = None
        chosen: str | None = None
        for _, at, data in records:
            record = read_record(data)
            if isinstance(record, JobSubmitted):
                story = cls(spec=record.job, submitted_at=at)
            assert story is not None, "a job's first record is that it was submitted"
            match record:
                case AttemptStarted(attempt=attempt):
                    story.started_at = story.started_at or at
                    found = story.checkpoints.get(chosen or "") or story.last_checkpoint
                    story.attempt = attempt
                    story.resumed_from = label_of(found) if found is not None else None
                case JobResumed(checkpoint=checkpoint):
                    chosen = checkpoint or chosen
                case FileKept(file=file, dropped=dropped):
                    if file.kind == "checkpoint" and file.blob is not None:
                        story.checkpoints[file.file_id], chosen = file, None
                    for file_id in dropped:
                        story.checkpoints.pop(file_id, None)
                case JobFinished(outcome=outcome):
                    story.finished_at, story.outcome = at, outcome
                case _:
                    pass
        return story

    @property
    def last_checkpoint(self) -> KeptFile | None:
        """The one that was stored last."""
        return next(reversed(self.checkpoints.values()), None)


@dataclass(slots=True, kw_only=True)
class Following:
    """A job that is followed; changed by the follower alone."""

    job_id: str
    story: Story
    request: Request
    clock: Clock
    fold: Fold = field(default_factory=Fold)
    state: str = "queued"
    """Where a live job is, as the core says it."""
    has_files: bool = False
    """Whether files are written of it: it was asked for by ``execute``."""
    listeners: dict[int, Callable[[bool], None]] = field(
        default_factory=dict[int, Callable[[bool], None]], repr=False
    )
    """Told when there is news, and whether it is that the job is somewhere else, or has ended."""
    heard_at: float | None = None
    """When it was last heard of, on the monotonic clock."""
    log_pieces: list[str] = field(default_factory=list[str], repr=False)
    """What is not in its log yet."""
    log_written: int | None = 0
    """Length of its log on the disk; None if that must be made again."""
    is_behind: bool = False
    """Whether the store has more that comes before what is heard now."""
    has_missed: bool = False
    """Whether something was heard, and left to be read, meanwhile."""
    unpacked: tuple[str, ...] = ()
    """Ids of the checkpoints that lie as folders."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """Held by who writes its files."""
    is_news: bool = True
    """Whether ``progress.json`` is out of date."""
    saved_at: float = 0.0
    """When its fold was last written, on the monotonic clock."""

    def take(self, event: JobEvent) -> None:
        """Take in what it said."""
        if not self.fold.take(event):
            return
        self.heard_at, self.is_news = time.monotonic(), True
        if self.has_files and event.kind == "log":
            text = str(event.body.get("text", ""))
            self.log_pieces.append(text)
            self.fold.log_bytes += len(text.encode("utf-8", "replace"))
        if event.kind in ("metrics", "progress"):
            self._tell(is_move=False)

    def move(self, state: str, attempt: int, resumed_from: str | None) -> None:
        """It is somewhere else now."""
        if attempt > self.story.attempt:
            self.story.attempt, self.story.resumed_from = attempt, resumed_from
            self.story.started_at = self.story.started_at or self.clock()
        if state != self.state:
            self.state, self.is_news = state, True
            self._tell(is_move=True)

    def end(self, outcome: Outcome) -> None:
        """It has ended; that never changes again."""
        if self.story.outcome is None:
            if outcome.run_s and self.status in ("queued", "pending"):
                # It ran so briefly that nobody said so before it ended.
                self.move("running", outcome.attempt, self.story.resumed_from)
            self.story.outcome, self.story.finished_at = outcome, self.clock()
            self.is_news = True
            self._tell(is_move=True)

    @property
    def status(self) -> Status:
        """Where it is, in the dialect's words."""
        outcome = self.story.outcome
        return status_of(self.state if outcome is None else outcome.status)

    def standing(self) -> Standing:
        """Where it is, with the times."""
        elapsed_s = self.fold.spoken_s
        status = self.status
        if status == "running" and self.heard_at is not None:
            elapsed_s += time.monotonic() - self.heard_at
        return Standing(
            status=status,
            attempt=self.story.attempt,
            error=error_of(self.story.outcome, self.story.spec),
            submitted_at=self.story.submitted_at,
            started_at=self.story.started_at,
            finished_at=self.story.finished_at,
            elapsed_s=elapsed_s,
            resumed_from=self.story.resumed_from,
        )

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until the job is where it is wanted, at most so long; returns whether it is."""
        moved = asyncio.Event()

        def tell(is_move: bool) -> None:
            if is_move:
                moved.set()

        self.listeners[id(moved)] = tell
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    moved.clear()
                    await moved.wait()
        except TimeoutError:
            pass
        finally:
            del self.listeners[id(moved)]
        return condition()

    def _tell(self, *, is_move: bool) -> None:
        for tell in tuple(self.listeners.values()):
            tell(is_move)


def request_of(payload: bytes) -> Request:
    """Read what a training was asked for with from its bundle; empty for other jobs."""
    try:
        files = dict(decode_bundle(payload).files)
        content = files.get(CONFIG_FILE)
        data: JsonValue = json.loads(content) if isinstance(content, bytes) else None
    except (LineshaftError, ValueError):
        return Request()
    if not isinstance(data, dict):
        return Request()
    config, user_id, name = data.get("config"), data.get("user_id"), data.get("name")
    return Request(
        user_id=user_id if isinstance(user_id, str) else None,
        name=name if isinstance(name, str) else None,
        config=config if isinstance(config, dict) else {},
    )


def error_of(outcome: Outcome | None, spec: JobSpec) -> str | None:
    """Why a job failed, in a line."""
    failure = outcome.failure if outcome is not None else None
    if failure is None:
        return None
    silence_s = spec.timeouts.silence_s if spec.timeouts is not None else None
    if failure.cause == "silence_timeout" and silence_s is not None:
        return f"Training timed out - no progress updates for {silence_s / 60:g} minutes"
    return f"{failure.type_name}: {failure.message}" if failure.type_name else failure.message


def is_gpu_oom(failure: Failure | None) -> bool:
    """Whether a training failed because its GPU had no memory left."""
    if failure is None:
        return False
    text = "\n".join((failure.type_name, failure.message, *failure.last_lines)).lower()
    return any(sign in text for sign in _CUDA_MEMORY)
