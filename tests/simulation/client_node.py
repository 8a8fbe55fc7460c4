"""A user's process: it submits, watches and cancels, and may be started anew."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import cast

from tests.simulation.checks import Checks
from tests.simulation.coordinator_node import CoordinatorNode
from tests.simulation.faults import Faults
from tests.simulation.load import PauseWish, Wish
from tests.simulation.network import Network
from tests.simulation.node import Core, Node
from tests.simulation.world import SimulationError, World

from lineshaft.core.io import (
    Answered,
    CancelAsked,
    Close,
    Connect,
    Connected,
    Disconnected,
    JobAccepted,
    JobFinished,
    JobMoved,
    JobRefused,
    JobSpoke,
    Received,
    RequestAsked,
    Send,
    SubmitAsked,
    Tick,
    UnwatchAsked,
    WatchAsked,
    Welcomed,
)
from lineshaft.core.machine import ClientCore, CoreSettings
from lineshaft_protocol.client_messages import Drain, FromClient, Pause, Resume
from lineshaft_protocol.codec import TO_CLIENT, Codec
from lineshaft_protocol.ids import ClientId, JobId, Session
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire

SETTINGS = CoreSettings(reconnect_max_s=2.0, dial_s=3.0, ping_s=3.0, silence_s=9.0)


LEFT_SHARE = 0.15
"""Of the jobs whose user drops their future."""


@dataclass(slots=True)
class Told:
    """What one process heard of one job."""

    is_accepted: bool = False
    outcome: Outcome | None = None
    wants_events: bool = False
    cancels_unheard: int = 0
    events: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    is_left: bool = False
    """The user wants to hear nothing more; only that it is safe."""


class ClientNode(Node):
    """One user, through as many processes as it takes."""

    tick = Tick()

    def __init__(
        self,
        world: World,
        network: Network,
        faults: Faults,
        coordinator: CoordinatorNode,
        checks: Checks,
        *,
        name: str,
        wishes: list[Wish],
    ) -> None:
        super().__init__(world, name, faults)
        self.network, self.coordinator, self.checks = network, coordinator, checks
        self.accepted: dict[str, Wish] = {}
        """What some process of this user was told is safe."""
        self.refused: dict[str, str] = {}
        self.finished: dict[str, Outcome] = {}
        self.told: dict[str, Told] = {}
        """What the present process waits for or heard."""
        self.unanswered: dict[int, None] = {}
        self._wishes = {wish.spec.job_id: wish for wish in wishes}
        self._requests = 0
        self._put_off: list[Wish] = []
        for wish in wishes:
            world.after(wish.at, lambda wish=wish: self._submit(wish))

    @property
    def its_core(self) -> ClientCore:
        """The core, while the process is up."""
        return cast("ClientCore", self.core)

    def make_core(self) -> Core:
        core = ClientCore(
            SETTINGS, client_id=ClientId(self.name), versions=Versions(), now=self.clock()
        )
        return cast("Core", core)

    def start(self) -> None:
        super().start()
        self.told, self.unanswered = {}, {}
        for job_id, wish in self.accepted.items():
            if job_id in self.finished:
                continue
            if len(job_id) % 2:
                # As a script does that is started again: it does not know what it submitted.
                self.world.mark("submitted by a new process")
                self.told[job_id] = Told()
                self.post(SubmitAsked(wish.spec, has_new_id=False))
            self._watch(job_id, events=wish.wants_events)
            self.told[job_id].is_accepted = True
        put_off, self._put_off = self._put_off, []
        for wish in put_off:
            self._submit(wish)

    def crash(self) -> None:
        """End without warning; a new process watches what was accepted."""
        if not self.is_up:
            return
        self.world.mark("client_crash")
        self.stop("crashes")
        self.network.crashed(self, boot=self.boot)
        self.world.after(self.dice.uniform(0.5, 6.0), self.start)

    def after_batch(self) -> None:
        for job_id in self.its_core.jobs:
            if job_id not in self.told:
                raise SimulationError(f"{self.name} keeps {job_id}, which nobody asked for")

    # --- what the user does ---

    def _submit(self, wish: Wish) -> None:
        if not self.is_up:
            self._put_off.append(wish)
            return
        job_id = wish.spec.job_id
        self.told[job_id] = Told()
        self.post(SubmitAsked(wish.spec))
        if wish.wants_events:
            self._watch(job_id, events=True)
        for pause in wish.pauses:
            self.world.after(pause.after_s, lambda pause=pause: self._pause(job_id, pause))
        # Dice of its own, so that what else a seed does stays what it was.
        dice = Random(f"{job_id}/{wish.at}/leaves")
        if dice.random() < LEFT_SHARE and wish.cancel_after_s is None and not wish.pauses:
            self.world.after(
                dice.choice((0.0, dice.uniform(0.0, 5.0))), lambda: self._leave(job_id)
            )
        if wish.cancel_after_s == 0.0:
            self.cancel(job_id)
        elif wish.cancel_after_s is not None:
            self.world.after(wish.cancel_after_s, lambda: self.cancel(job_id))

    def _watch(self, job_id: str, *, events: bool) -> None:
        self.told.setdefault(job_id, Told()).wants_events |= events
        self.post(WatchAsked(JobId(job_id), events=events))

    def _leave(self, job_id: str) -> None:
        """Drop the job's future; it is to be kept and run all the same."""
        told = self.told.get(job_id)
        if self.is_up and told is not None and told.outcome is None and job_id not in self.refused:
            self.world.mark("left by its user")
            told.is_left = True
            self.post(UnwatchAsked(JobId(job_id)))

    def cancel(self, job_id: str) -> None:
        """Want a job no more."""
        told = self.told.get(job_id)
        if self.is_up and told is not None and told.outcome is None and job_id not in self.refused:
            told.cancels_unheard += 1
            self.post(CancelAsked(JobId(job_id), "not wanted any more"))

    def _pause(self, job_id: str, wish: PauseWish) -> None:
        told = self.told.get(job_id)
        if not self.is_up or told is None or told.outcome is not None:
            return
        self._ask(lambda number: Pause(request_id=number, job_id=job_id, freeze=wish.freeze))
        self.world.after(wish.for_s, lambda: self.resume(job_id))

    def resume(self, job_id: str) -> None:
        """Want a job to go on."""
        if self.is_up:
            self._ask(lambda number: Resume(request_id=number, job_id=job_id))

    def _ask(self, make: Callable[[int], FromClient]) -> None:
        self._requests += 1
        self.unanswered[self._requests] = None
        self.post(RequestAsked(self._requests, make(self._requests)))

    def drain(self, worker: str, *, stop: bool) -> None:
        """Ask that a worker takes nothing more."""
        if self.is_up:
            self.world.mark("operator_drain")
            self._requests += 1
            self.unanswered[self._requests] = None
            message = Drain(request_id=self._requests, worker_id=worker, stop=stop)
            self.post(RequestAsked(self._requests, message))

    # --- connections ---

    def decode(self, session: int, frame: bytes) -> list[object]:
        return [Received(Session(session), message) for message in TO_CLIENT.decode(frame)]

    def disconnected(self, session: int | None) -> Disconnected:
        return Disconnected(Session(session) if session is not None else None)

    # --- effects ---

    def perform(self, effects: list[object]) -> None:
        outgoing: dict[Session, list[Wire]] = {}
        for effect in effects:
            match effect:
                case Send(session=session, message=message):
                    outgoing.setdefault(session, []).append(message)
                case Connect():
                    self.network.connect(
                        self,
                        self.coordinator,
                        accepted=partial(self.coordinator.accept_client, name=self.name),
                        connected=lambda session: Connected(Session(session)),
                    )
                case Close(session=session):
                    self._flush(session, outgoing.pop(session, []))
                    self.network.close(self, session)
                case _:
                    self._hear(effect)
        for session, messages in outgoing.items():
            self._flush(session, messages)

    def _hear(self, effect: object) -> None:
        match effect:
            case JobAccepted(job_id=job_id):
                self.told[job_id].is_accepted = True
                self.accepted[job_id] = self._wishes[job_id]
                self.checks.on_told_accepted(job_id)
            case JobRefused(job_id=job_id, code=code):
                if job_id in self.refused:
                    return  # The user's wish to cancel it crossed the refusal.
                self.refused[job_id] = code
                self.world.mark(f"refused: {code}")
                self.checks.on_told_refused(self._wishes[job_id], code, accepted=self.accepted)
            case JobFinished(outcome=outcome):
                self._on_finished(outcome)
            case JobSpoke(job_id=job_id, events=events):
                heard = self.told[job_id].events
                for event in events:
                    if heard and (event.attempt, event.seq) <= heard[-1]:
                        raise SimulationError(f"{self.name} hears {event!r} out of order")
                    heard.append((event.attempt, event.seq))
            case Answered(request_id=request_id):
                del self.unanswered[request_id]
            case Welcomed() | JobMoved():
                pass
            case _:
                raise SimulationError(f"unknown effect {effect!r}")

    def _on_finished(self, outcome: Outcome) -> None:
        told = self.told[outcome.job_id]
        if told.outcome == outcome and told.cancels_unheard:
            # The user's wish to cancel it crossed the news of its end.
            told.cancels_unheard = 0
            return
        if told.outcome is not None:
            raise SimulationError(f"{self.name} is told twice how {outcome.job_id} ended")
        told.outcome = outcome
        self.finished[outcome.job_id] = outcome
        # Whoever knows the end knows that it was accepted.
        self.accepted[outcome.job_id] = self._wishes[outcome.job_id]
        self.checks.on_told_finished(outcome, events=told.events if told.wants_events else None)

    def _flush(self, session: int, messages: list[Wire]) -> None:
        encoded = [Codec.encode(message) for message in messages]
        frames = Codec.encode_batches(encoded) if self.dice.random() < 0.7 else encoded
        self.network.send(self, session, frames)
