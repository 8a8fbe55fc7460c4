"""An attempt's way through the worker: every transition of it is one of these methods."""

from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.outcomes import AttemptResult, Failure
from lineshaft_protocol.worker_messages import (
    Assign,
    Began,
    EventsAck,
    FromWorker,
    Held,
    Place,
    Returned,
    SetPause,
    SpawnChild,
)
from lineshaft_worker.core.attempts import ONE_SLOT, Attempt, Bench, Phase, found_ended, own_result
from lineshaft_worker.core.children import Children
from lineshaft_worker.core.dispatch import Dispatcher
from lineshaft_worker.core.io import (
    AbandonFiles,
    AskPause,
    AttemptBegan,
    AttemptEnded,
    AttemptKey,
    AttemptNews,
    AttemptReturned,
    AttemptSpoke,
    BlobGone,
    BlobNews,
    CheckDevices,
    ChildAsked,
    Effect,
    EnvironmentProgress,
    FileStored,
    ForgetAttempt,
    PauseSeen,
    ResultRefused,
    ResultStored,
    RevokeAttempt,
    StopAttempt,
    StoreResult,
)
from lineshaft_worker.core.outbox import Outbox
from lineshaft_worker.core.settings import CoreSettings
from lineshaft_worker.core.supplies import Supplies


class AttemptFlow:
    """Moves attempts; keeps the bench and what the coordinator was told in step."""

    def __init__(
        self,
        settings: CoreSettings,
        bench: Bench,
        dispatcher: Dispatcher,
        effects: list[Effect],
        *,
        python: str | None,
    ) -> None:
        self._bench, self._effects = bench, effects
        self._dispatcher = dispatcher
        self._outbox = Outbox(settings, effects)
        self._supplies = Supplies(effects, python=python, ready=self._supplied, failed=self._fail)
        self.children = Children(bench, effects)
        self._unsaid: list[Returned] = []
        """Attempts given back since the last Register said that we hold them."""

    # --- the connection ---

    def register(self) -> tuple[Held, ...]:
        """List what we hold, for a Register that is sent now."""
        self._unsaid.clear()
        return tuple(
            attempt.held() for attempt in self._bench.attempts.values() if not attempt.is_forgotten
        )

    def attach(self, session: Session, features: tuple[str, ...]) -> None:
        """Tell the coordinator again whatever it may not have heard."""
        self._outbox.session, self._outbox.knows_files = session, "pause" in features
        self._outbox.knows_preparing = "environments" in features
        self._outbox.knows_places = "unplaced" in features
        for returned in self._unsaid:
            self._send(returned)
        self._unsaid.clear()
        for attempt in tuple(self._bench.attempts.values()):
            if attempt.is_forgotten:
                continue
            if attempt.pause == "unknown" and "pause" not in features:
                attempt.pause = "none"  # Such a coordinator has nobody frozen.
            if attempt.has_begun and attempt.phase is Phase.RUNNING:
                self._send(Began(job_id=attempt.key.job_id, attempt=attempt.key.attempt))
            self._outbox.repeat(attempt)
            for spec in attempt.children.values():
                self._send(SpawnChild(job=spec, is_repeat=True))
            if attempt.phase is Phase.ENDED and attempt.result is not None:
                self._outbox.tell_end(attempt.result)
            elif attempt.phase is Phase.STORING:
                self._effects.append(StoreResult(attempt.key))
            elif attempt.phase is Phase.FETCHING:
                self._supplies.bring(attempt)
            elif attempt.phase is Phase.PREPARED:
                self._ask_for_place(attempt)

    def detach(self) -> None:
        """The coordinator cannot be told anything now."""
        self._outbox.session = None

    def _send(self, message: FromWorker) -> None:
        self._outbox.send(message)

    # --- in ---

    def adopt(self, assign: Assign, lane: int) -> None:
        """Take over an attempt that outlived the daemon before us."""
        key = AttemptKey(JobId(assign.job.job_id), assign.attempt)
        attempt = Attempt(key, assign, Phase.RUNNING, pause="unknown", has_begun=True)
        self._bench.attempts[key] = attempt
        self._bench.take_lane(attempt, lane)

    def find(self, key: AttemptKey) -> Attempt:
        """Take over an attempt that ended while no daemon was there to see it."""
        return self._bench.attempts.setdefault(key, found_ended(key))

    def on_assign(self, assign: Assign, *, refuse: bool) -> None:
        """The coordinator wants an attempt run."""
        key = AttemptKey(JobId(assign.job.job_id), assign.attempt)
        if key in self._bench.attempts:
            return  # Told twice.
        if refuse:
            self._send(Returned(job_id=key.job_id, attempt=key.attempt, reason="draining"))
            return
        attempt = self._bench.attempts[key] = Attempt(key, assign, Phase.FETCHING)
        self._supplies.bring(attempt)

    def return_impossible(self) -> None:
        """Hand back what waits for something this machine no longer offers."""
        for key in tuple(self._bench.waiting):
            attempt = self._bench.attempts[key]
            if not self._bench.may_ever_fit(attempt):
                self._give_back(attempt, "what it asks for is out of use on this worker")

    def _supplied(self, attempt: Attempt) -> None:
        if attempt.assign.is_unplaced:
            attempt.phase = Phase.PREPARED
            self._ask_for_place(attempt)
        else:
            self._wait(attempt)

    def _ask_for_place(self, attempt: Attempt) -> None:
        if self._outbox.session is not None and not self._outbox.knows_places:
            self._give_back(attempt, "its coordinator gives no places; it is too old")
        else:
            self._outbox.tell_prepared(attempt)

    def on_place(self, place: Place) -> None:
        """The coordinator has room for what was prepared."""
        attempt = self._bench.attempts.get(AttemptKey(JobId(place.job_id), place.attempt))
        if attempt is None or not attempt.assign.is_unplaced:
            return  # It was told twice, or is over.
        placed = {"devices": place.devices, "is_unplaced": None}
        attempt.assign = attempt.assign.model_copy(update=placed)
        if attempt.phase is Phase.PREPARED:
            self._wait(attempt)

    def _wait(self, attempt: Attempt, *, is_first: bool = False) -> None:
        if attempt.wanted is not ONE_SLOT and not self._bench.may_ever_fit(attempt):
            self._give_back(attempt, "what it asks for is out of use on this worker")
            return
        attempt.phase = Phase.WAITING
        self._bench.waiting[attempt.key] = None
        if is_first:
            self._bench.waiting.move_to_end(attempt.key, last=False)

    def on_blob_event(self, event: BlobNews) -> None:
        """What an attempt needs came, went, or will not come; or its result was stored."""
        if isinstance(event, BlobGone):
            self._supplies.forget(event.blob_id)
            return
        attempt = self._bench.attempts.get(event.key)
        match event:
            case _ if attempt is None:
                pass
            case ResultStored(payload=payload) if attempt.phase is Phase.STORING:
                assert attempt.result is not None, "a result is stored after it is known"
                stored = {"result": payload} if payload is not None else {}
                self._end(attempt, attempt.result.model_copy(update=stored))
            case ResultRefused(message=message) if attempt.phase is Phase.STORING:
                self._fail(attempt, Failure(cause="result", message=message))
            case EnvironmentProgress() if attempt.phase is Phase.PREPARING:
                attempt.doing = event.doing
                self._outbox.tell_preparing(attempt)
                self._outbox.on_spoke(attempt, event.events)
            case ResultStored() | ResultRefused() | EnvironmentProgress():
                pass  # It was stopped or settled meanwhile.
            case _:
                self._supplies.on_event(attempt, event)

    def _fail(self, attempt: Attempt, failure: Failure) -> None:
        self._end(attempt, own_result(attempt, "failed", failure))

    def fill(self, now: float, *, acked_at: float | None) -> None:
        """Go on with plans whose child ended, then start what fits and still is ours."""
        self.children.resume()
        self._dispatcher.fill(now, acked_at=acked_at)

    # --- what attempts do ---

    def on_attempt_event(self, event: AttemptNews, now: float) -> None:
        """Something happened to an attempt that is not its end."""
        attempt = self._bench.attempts.get(event.key)
        if attempt is None and isinstance(event, AttemptSpoke | FileStored):
            attempt = self.find(event.key)
        if attempt is None:
            return
        match event:
            case AttemptBegan():
                attempt.has_begun = True
                if not attempt.is_forgotten:
                    self._send(Began(job_id=event.key.job_id, attempt=event.key.attempt))
            case AttemptSpoke(events=events):
                self._outbox.on_spoke(attempt, events)
            case AttemptReturned():
                self._on_returned(attempt, now)
            case FileStored(file=file):
                attempt.files[file.file_id] = file
                if not attempt.is_forgotten:
                    self._outbox.send_file(attempt, file)
            case PauseSeen(is_frozen=is_frozen, problem=problem):
                attempt.is_frozen = is_frozen
                self._outbox.tell_pause(attempt, problem)
            case ChildAsked(spec=spec):
                self.children.ask(attempt, spec)
                self._send(SpawnChild(job=spec))

    def _on_returned(self, attempt: Attempt, now: float) -> None:
        is_stop_wanted = attempt.is_stop_wanted or attempt.phase is Phase.STOPPING
        if attempt.phase is not Phase.HANDED:
            # Its runner died before it began; it had the lane to itself.
            self._dispatcher.advance(self._bench.vacate(attempt), now)
        else:
            self._bench.leave_lane(attempt)
        if attempt.is_forgotten:
            self._drop(attempt)
        elif is_stop_wanted:
            self._end(attempt, own_result(attempt, "stopped"))
        elif attempt.is_recalled:
            self._give_back(attempt, "another worker is idle")
        else:
            self._wait(attempt, is_first=True)

    def _give_back(self, attempt: Attempt, reason: str) -> None:
        key = attempt.key
        self._supplies.abandon(attempt)
        self._bench.waiting.pop(key, None)
        returned = Returned(job_id=key.job_id, attempt=key.attempt, reason=reason)
        if self._outbox.session is None:
            # When we register it will not be among what we hold, which says the same. If our
            # Register is on its way it says the contrary: then this must follow.
            self._unsaid.append(returned)
        else:
            self._send(returned)
        self._drop(attempt)

    def on_ended(self, ended: AttemptEnded, now: float) -> None:
        """No process of the attempt is left."""
        attempt = self._bench.attempts.get(ended.key) or self.find(ended.key)
        attempt.result, attempt.must_store = ended.result, ended.must_store
        devices = attempt.assign.devices
        if ended.gone_pid is not None and devices and attempt.lane is not None:
            attempt.phase = Phase.CHECKING
            self._effects.append(CheckDevices(ended.key, devices, ended.gone_pid))
        else:
            self._conclude(attempt, ended.result, now)

    def on_checked(self, key: AttemptKey, now: float) -> None:
        """Its GPUs were given back, or are marked as out of use."""
        attempt = self._bench.attempts.get(key)
        if attempt is not None and attempt.phase is Phase.CHECKING:
            assert attempt.result is not None, "what is checked has ended"
            self._conclude(attempt, attempt.result, now)

    def _conclude(self, attempt: Attempt, result: AttemptResult, now: float) -> None:
        """Free what it had, and tell its end."""
        key = attempt.key
        if attempt.phase is Phase.HANDED:
            # It began and ended before we heard that the one in front of it had ended.
            self._bench.leave_lane(attempt)
        elif attempt.lane is not None:
            lane = self._bench.lanes[attempt.lane]
            lane.expected_s = max(0.0, lane.expected_s - (attempt.assign.expected_s or 0.0))
            self._dispatcher.advance(self._bench.vacate(attempt), now)
        self.children.abandon(attempt)
        if attempt.is_forgotten:
            self._drop(attempt)
        elif attempt.must_store and result.status != "stopped":
            attempt.phase = Phase.STORING
            if self._outbox.session is not None:
                self._effects.append(StoreResult(key))
        else:
            self._end(attempt, result)

    def _end(self, attempt: Attempt, result: AttemptResult) -> None:
        attempt.phase, attempt.result = Phase.ENDED, attempt.judged(result)
        self._bench.waiting.pop(attempt.key, None)
        self._outbox.tell_end(attempt.result)

    # --- what the coordinator wants ---

    def on_settled(self, key: AttemptKey) -> None:
        """The coordinator needs nothing more of it: end it if it runs, and forget it."""
        attempt = self._bench.attempts.get(key)
        if attempt is None:
            return
        if attempt.lane is None:
            self._drop(attempt)
            return
        attempt.is_forgotten = True
        self._stop(attempt)

    def on_stop(self, key: AttemptKey) -> None:
        """End it, and tell when it is over."""
        if (attempt := self._bench.attempts.get(key)) is not None:
            self._stop(attempt)

    def _stop(self, attempt: Attempt, grace_s: float | None = None) -> None:
        match attempt.phase:
            case Phase.FETCHING | Phase.PREPARING | Phase.PREPARED | Phase.WAITING:
                self._supplies.abandon(attempt)
                self._end(attempt, own_result(attempt, "stopped"))
            case Phase.HANDED:
                attempt.is_stop_wanted = True
                self._effects.append(RevokeAttempt(attempt.key))
            case Phase.RUNNING:
                attempt.phase = Phase.STOPPING
                self._effects.append(StopAttempt(attempt.key, grace_s))
            case Phase.STORING:
                self._effects.append(AbandonFiles(attempt.key))
            case Phase.STOPPING | Phase.CHECKING | Phase.ENDED:
                pass  # It is over, or will be.

    def stop_all(self, reason: str) -> None:
        """End everything that waits or runs."""
        for attempt in tuple(self._bench.attempts.values()):
            self.stop_or_return(attempt, reason)

    def stop_or_return(self, attempt: Attempt, reason: str, grace_s: float | None = None) -> None:
        """End it if it runs, hand it back if it waits."""
        if attempt.is_to_start:
            self._give_back(attempt, reason)
        else:
            self._stop(attempt, grace_s)

    def on_recall(self, key: AttemptKey) -> None:
        """Hand it back if it has not started."""
        if (attempt := self._bench.attempts.get(key)) is None:
            return
        if attempt.is_to_start:
            self._give_back(attempt, "another worker is idle")
        elif attempt.phase is Phase.HANDED:
            attempt.is_recalled = True
            self._effects.append(RevokeAttempt(key))

    def on_set_pause(self, asked: SetPause) -> None:
        """Have it pause; what has not begun is handed back, which is the same."""
        attempt = self._bench.attempts.get(AttemptKey(JobId(asked.job_id), asked.attempt))
        if attempt is None:
            return
        if asked.mode != "none" and attempt.is_to_start:
            self._give_back(attempt, "it is asked to pause")
        elif asked.mode != "none" and attempt.phase is Phase.HANDED:
            self.on_recall(attempt.key)
        elif attempt.phase is Phase.RUNNING:
            attempt.pause = asked.mode
            self._effects.append(AskPause(attempt.key, asked.mode))

    def on_kept(self, key: AttemptKey, file_id: str) -> None:
        """A file is on the job's record."""
        if (attempt := self._bench.attempts.get(key)) is not None:
            self._outbox.on_kept(attempt, file_id)

    def return_waiting(self, reason: str) -> None:
        """Hand back everything that has not started."""
        for attempt in tuple(self._bench.attempts.values()):
            if attempt.is_to_start or attempt.phase is Phase.HANDED:
                self.on_recall(attempt.key)

    def on_events_ack(self, ack: EventsAck) -> None:
        """These events are on the coordinator's disk."""
        key = AttemptKey(JobId(ack.job_id), ack.attempt)
        if (attempt := self._bench.attempts.get(key)) is not None:
            self._outbox.on_events_ack(attempt, ack.seq)

    def _drop(self, attempt: Attempt) -> None:
        self._supplies.abandon(attempt)
        self._bench.waiting.pop(attempt.key, None)
        self.children.abandon(attempt)
        del self._bench.attempts[attempt.key]
        self._effects.append(ForgetAttempt(attempt.key))
