"""What the coordinator must hear of attempts, and hears again until it has it."""

import json

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import Session
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult
from lineshaft_protocol.wire import unchecked
from lineshaft_protocol.worker_messages import (
    Ended,
    FromWorker,
    JobEvents,
    Kept,
    PauseTold,
    Prepared,
    Preparing,
)
from lineshaft_worker.core.attempts import Attempt, Phase
from lineshaft_worker.core.io import Effect, ForgetFile, Send
from lineshaft_worker.core.settings import CoreSettings

_ended = unchecked(Ended)


class Outbox:
    """Says things on the session there is; what is said without one is lost, or said again."""

    def __init__(self, settings: CoreSettings, effects: list[Effect]) -> None:
        self._settings, self._effects = settings, effects
        self.session: Session | None = None
        self.knows_files = False
        """Whether the coordinator is new enough to hear of files and pauses."""
        self.knows_preparing = False
        """Whether it is new enough to hear of environments."""
        self.knows_places = False
        """Whether it gives places to what is prepared."""

    def send(self, message: FromWorker) -> None:
        """Say it if there is somebody to hear it."""
        if self.session is not None:
            self._effects.append(Send(self.session, message))

    def tell_end(self, result: AttemptResult) -> None:
        """Say how an attempt ended."""
        self.send(_ended(result=result))

    def repeat(self, attempt: Attempt) -> None:
        """Say again what the attempt said and left, on a new connection."""
        self._send_events(tuple(attempt.unacked.values()))
        for file in attempt.files.values():
            self.send_file(attempt, file)
        if attempt.doing and attempt.phase is Phase.PREPARING:
            self.tell_preparing(attempt)
        if attempt.is_frozen:
            self.tell_pause(attempt)

    def _send_events(self, events: tuple[JobEvent, ...]) -> None:
        batch: list[JobEvent] = []
        size = 0
        for event in events:
            length = _characters(event)
            is_full = size + length > self._settings.spool_characters_max
            if batch and (is_full or len(batch) == self._settings.spool_lines_max):
                self.send(JobEvents(events=tuple(batch)))
                batch, size = [], 0
            batch.append(event)
            size += length
        if batch:
            self.send(JobEvents(events=tuple(batch)))

    def on_spoke(self, attempt: Attempt, events: tuple[JobEvent, ...]) -> None:
        """Keep what an attempt said until it is acknowledged, as far as there is room."""
        for event in events:
            attempt.unacked[event.seq] = event
        while len(attempt.unacked) > self._settings.unacked_max:
            seq, dropped = attempt.unacked.popitem(last=False)
            # The number of the first that is left says where the gap is; this says why.
            first = next(iter(attempt.unacked.values()))
            if first.kind != "notice":
                text = f"events up to {seq} were dropped: the coordinator did not answer"
                notice = dropped.model_copy(
                    update={"seq": first.seq, "kind": "notice", "body": {"text": text}}
                )
                attempt.unacked[first.seq] = notice
        if not attempt.is_forgotten:
            self._send_events(events)

    def on_events_ack(self, attempt: Attempt, seq: int) -> None:
        """These events are on the coordinator's disk."""
        while attempt.unacked and next(iter(attempt.unacked)) <= seq:
            attempt.unacked.popitem(last=False)

    def send_file(self, attempt: Attempt, file: KeptFile) -> None:
        """Say that a file is stored, or could not be."""
        if self.knows_files:
            self.send(Kept(job_id=attempt.key.job_id, file=file))

    def tell_pause(self, attempt: Attempt, problem: str | None = None) -> None:
        """Say what became of a pause."""
        self.send(
            PauseTold(
                job_id=attempt.key.job_id,
                attempt=attempt.key.attempt,
                is_frozen=attempt.is_frozen,
                problem=problem,
            )
        )

    def tell_preparing(self, attempt: Attempt) -> None:
        """Say what is done for an attempt before it starts."""
        if self.knows_preparing:
            key = attempt.key
            self.send(Preparing(job_id=key.job_id, attempt=key.attempt, doing=attempt.doing))

    def tell_prepared(self, attempt: Attempt) -> None:
        """Say that an attempt without a place could begin."""
        self.send(Prepared(job_id=attempt.key.job_id, attempt=attempt.key.attempt))

    def on_kept(self, attempt: Attempt, file_id: str) -> None:
        """A file is on the job's record."""
        if attempt.files.pop(file_id, None) is not None:
            self._effects.append(ForgetFile(attempt.key, file_id))


def _characters(event: JobEvent) -> int:
    text = event.body.get("text")
    if event.kind == "log" and isinstance(text, str):
        return len(text)
    # Metrics by the hundred have no text: their names and numbers count.
    return len(json.dumps(event.body))
