"""The coordinator's shell: durable before visible, and it crashes at every place it can."""

from typing import Protocol, cast

from tests.simulation.disk import Disk, token_of
from tests.simulation.faults import Faults
from tests.simulation.network import Network
from tests.simulation.node import Core, Node
from tests.simulation.world import World

from lineshaft_coordinator.core.io import (
    Append,
    AppendEvents,
    Close,
    Connected,
    Disconnected,
    Found,
    Lookup,
    Received,
    Replay,
    Send,
    StopPlacing,
    Tick,
)
from lineshaft_coordinator.core.ledger import Leased, Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.records import Record
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_protocol.client_messages import Events
from lineshaft_protocol.codec import FROM_CLIENT, FROM_WORKER, Codec
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Ended

SETTINGS = CoreSettings(
    heartbeat_s=1.5,
    suspect_s=4.5,
    silence_s=6.0,
    lost_after_s=20.0,
    lost_after_brief_s=0.5,
    lease_s=7.0,
    lease_brief_s=7.0,
    ending_s=9.0,
    recovery_s=5.0,
    retry_first_s=0.5,
    retry_max_s=4.0,
    reserve_after_s=3.0,
    client_silence_s=15.0,
    lost_max=3,
    pause_grace_s=5.0,
    preempt_after_s=1.0,
    preempt_spare_s=10.0,
    checkpoints_kept=2,
)
"""As in production, but ten times as fast."""


UNREADABLE = "a record of it cannot be read"
WHOLE_MAX = 2
"""Jobs that are kept whole after their end: of most it is only known that they ended."""


class Witness(Protocol):
    """Who looks on while the coordinator works."""

    def on_start(self, core: CoordinatorCore) -> None: ...
    def on_commit(self, records: list[Record]) -> None: ...
    def on_send(self, message: Wire) -> None: ...
    def on_coordinator_batch(self, core: CoordinatorCore) -> None: ...


class CoordinatorNode(Node):
    """The process that keeps the journal."""

    tick = Tick()

    def __init__(
        self, world: World, network: Network, faults: Faults, disk: Disk, witness: Witness
    ) -> None:
        super().__init__(world, "coordinator", faults, drift=faults.drift)
        self.network, self.disk, self.witness = network, disk, witness
        self._codecs: dict[int, Codec] = {}
        self._commits = 0

    @property
    def its_core(self) -> CoordinatorCore:
        """The core, while the process is up."""
        return cast("CoordinatorCore", self.core)

    def make_core(self) -> Core:
        self.disk.epoch += 1
        self._codecs = {}
        ledger = Ledger.replay(self.disk.live_records())
        ledger.recent.whole_max = WHOLE_MAX
        core = CoordinatorCore(SETTINGS, ledger=ledger, epoch=self.disk.epoch, now=self.clock())
        self.witness.on_start(core)
        return cast("Core", core)

    def crash(self, why: str) -> None:
        """End without warning, and start again soon."""
        if not self.is_up:
            return
        self.world.mark(f"coordinator_crash: {why}")
        self.stop(why)
        self.network.crashed(self, boot=self.boot)
        self.world.after(self.dice.uniform(0.1, 8.0), self._start_again)

    def _start_again(self) -> None:
        if self.disk.is_full:
            # It would stop again at its first commit.
            self.world.after(1.0, self._start_again)
        elif not self.is_up:
            self.start()

    def stop_gracefully(self) -> None:
        """Place nothing more, then end: what a service manager does."""
        if self.is_up:
            self.world.mark("graceful_stop")
            self.post(StopPlacing())
            self.later(self.dice.uniform(0.5, 3.0), lambda: self.crash("was stopped"))

    def after_batch(self) -> None:
        self.witness.on_coordinator_batch(self.its_core)

    # --- connections ---

    def accept_client(self, session: int, name: str) -> Connected:
        """A client was let in, by a token of its own."""
        self._codecs[session] = FROM_CLIENT
        return Connected(Session(session), "client", token_of(name))

    def accept_worker(self, session: int) -> Connected:
        """A worker was let in."""
        self._codecs[session] = FROM_WORKER
        return Connected(Session(session), "worker")

    def decode(self, session: int, frame: bytes) -> list[object]:
        messages = self._codecs[session].decode(frame)
        for message in messages:
            if isinstance(message, Ended):
                self._look_at(message)
        return [Received(Session(session), message) for message in messages]

    def _look_at(self, ended: Ended) -> None:
        job = self.its_core.shop.ledger.jobs.get(JobId(ended.result.job_id))
        state = job.state if job is not None else None
        if not isinstance(state, Leased) or state.attempt != ended.result.attempt:
            self.world.mark("fenced_ended")

    def disconnected(self, session: int | None) -> Disconnected:
        assert session is not None, "the coordinator never dials"
        return Disconnected(Session(session))

    # --- effects ---

    def perform(self, effects: list[object]) -> None:
        records = [e.record for e in effects if isinstance(e, Append)]
        events = [event for e in effects if isinstance(e, AppendEvents) for event in e.events]
        if not records and not events:
            self._carry_out(effects)
            return
        self.wait()
        commit_s = self.dice.uniform(0.0001, self.faults.commit_s_max)

        def commit() -> None:
            if self._is_crash_time():
                self.crash("before the commit")
                return
            if self.disk.is_full:
                self.crash("the disk is full")
                return
            kept = self.disk.commit(records, events)
            self.world.note(self.name, f"committed {len(records)} and {len(events)}")
            self.witness.on_commit(kept)
            if self._is_crash_time():
                self.crash("after the commit")
                return
            self._carry_out(effects)
            if self.is_up:
                self.go_on()

        self.later(commit_s, commit)

    def _is_crash_time(self) -> bool:
        return self.dice.random() < self.faults.crash_around_commit

    def _carry_out(self, effects: list[object]) -> None:
        crash_at = None
        if len(effects) > 1 and self._is_crash_time():
            crash_at = self.dice.randrange(len(effects))
        outgoing: dict[Session, list[Wire]] = {}
        for index, effect in enumerate(effects):
            if index == crash_at:
                break
            match effect:
                case Send(session=session, message=message):
                    self.witness.on_send(message)
                    outgoing.setdefault(session, []).append(message)
                case Replay():
                    self._replay(effect, outgoing)
                case Close(session=session, reason=reason):
                    self.world.mark(f"close: {reason.split(' for ')[0]}")
                    self._flush(session, outgoing.pop(session, []))
                    self.network.close(self, session)
                case Lookup(job_id=job_id):
                    self.later(self._disk_latency(), lambda j=job_id: self._look_up(j))
                case _:
                    pass  # Durable already.
        for session, messages in outgoing.items():
            self._flush(session, messages)
        if crash_at is not None:
            self.crash("between sends")

    def _flush(self, session: int, messages: list[Wire]) -> None:
        encoded = [Codec.encode(message) for message in messages]
        frames = Codec.encode_batches(encoded) if self.dice.random() < 0.7 else encoded
        self.network.send(self, session, frames)

    def _replay(self, replay: Replay, outgoing: dict[Session, list[Wire]]) -> None:
        events = self.disk.events_after(replay.job_id, replay.after_attempt, replay.after_seq)
        if events:
            self.world.mark("replay")
            outgoing.setdefault(replay.session, []).append(Events(events=events))

    def _look_up(self, job_id: str) -> None:
        self.world.mark("lookup")
        found = Found(job_id, *self.disk.find(job_id))
        if self.disk.is_unreadable(job_id):
            self.world.mark("unreadable")
            found = Found(job_id, None, None, UNREADABLE)
        self.later(self._disk_latency(), lambda: self.post(found))

    def _disk_latency(self) -> float:
        return self.dice.uniform(0.0001, max(0.001, self.faults.commit_s_max))
