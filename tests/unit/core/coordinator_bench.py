"""A coordinator core whose every step is checked by all invariants."""

from tests.unit.core.samples import capacity, job

from lineshaft_coordinator.core.invariants import check
from lineshaft_coordinator.core.io import (
    Append,
    Close,
    Connected,
    Disconnected,
    Effect,
    Event,
    Received,
    Send,
    Tick,
)
from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.records import Record, decode, encode
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.client_messages import ClientHello, FromClient, Submit
from lineshaft_protocol.ids import ClientId, Session, WorkerId
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign, FromWorker, Heartbeat, Held, Register


class CoordinatorBench:
    """One coordinator; ``now`` is its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.settings = CoreSettings()
        self.journal: list[Record] = []
        self._sessions = 0
        self._core: CoordinatorCore | None = None
        self._epoch = 0

    # --- given ---

    def given(self, *records: Record) -> None:
        """Start from what the journal says."""
        self.journal += records
        self.restart()

    def restart(self) -> None:
        """Start anew from the journal, as after a crash."""
        over = {record.job_id for record in self.journal if record.type == "JobFinished"}
        live = [decode(encode(record)) for record in self.journal if record.job_id not in over]
        self._epoch += 1
        self._core = CoordinatorCore(
            self.settings, ledger=Ledger.replay(live), epoch=self._epoch, now=self.now
        )
        check(self.shop)

    @property
    def core(self) -> CoordinatorCore:
        """The core; one without any past, if nothing was given."""
        if self._core is None:
            self.restart()
        assert self._core is not None, "restart makes one"
        return self._core

    @property
    def shop(self) -> Shop:
        """All state of the core."""
        return self.core.shop

    def client(self, name: str = "c", *, owner: str | None = None) -> Session:
        """A client that said hello."""
        session = self._connect("client", owner)
        self.receive(session, ClientHello(client_id=ClientId(name), versions=Versions()))
        return session

    def worker(
        self,
        name: str = "w1",
        *,
        held: tuple[Held, ...] = (),
        incarnation: str = "i1",
        offers: Capacity | None = None,
        tags: tuple[str, ...] = (),
        is_draining: bool = False,
    ) -> Session:
        """A worker that registered; what it was answered is not told."""
        return self.register(
            name,
            held=held,
            incarnation=incarnation,
            offers=offers,
            tags=tags,
            is_draining=is_draining,
        )[0]

    def register(
        self,
        name: str,
        *,
        held: tuple[Held, ...] = (),
        incarnation: str = "i1",
        offers: Capacity | None = None,
        tags: tuple[str, ...] = (),
        is_draining: bool = False,
        versions: Versions | None = None,
    ) -> tuple[Session, list[Effect]]:
        """A worker that registers, and what is done about it."""
        session = self._connect("worker")
        register = Register(
            worker_id=WorkerId(name),
            capabilities={},
            versions=versions or Versions(),
            capacity=offers or capacity(),
            tags=tags,
            pythons=("3.11",),
            incarnation=incarnation,
            held=held,
            is_draining=is_draining,
        )
        return session, self.receive(session, register)

    def _connect(self, role: str, owner: str | None = None) -> Session:
        self._sessions += 1
        session = Session(self._sessions)
        self.handle(Connected(session, "client" if role == "client" else "worker", owner))
        return session

    # --- when ---

    def receive(self, session: Session, message: FromClient | FromWorker) -> list[Effect]:
        """A message arrives."""
        return self.handle(Received(session, message))

    def submit(self, session: Session, job_id: str, **wanted: object) -> list[Effect]:
        """A job is submitted."""
        return self.receive(session, Submit(job=job(job_id, **wanted), is_fresh=True))

    def disconnect(self, session: Session) -> list[Effect]:
        """A session ends."""
        return self.handle(Disconnected(session))

    def handle(self, *events: Event) -> list[Effect]:
        """Anything happens in one moment; all indexes agree with each other afterwards."""
        effects = self.core.handle(events, self.now)
        check(self.shop)
        self.journal += [effect.record for effect in effects if isinstance(effect, Append)]
        return effects

    def live(self, seconds: float, *workers: Session) -> None:
        """Time passes in which these workers are heard."""
        for _ in range(int(seconds)):
            self.after(1.0)
            for session in workers:
                name = self.shop.fleet.by_session[session].worker_id
                self.receive(session, Heartbeat(worker_id=name, load={}, sent_at=self.now))

    def after(self, seconds: float) -> list[Effect]:
        """Time passes; the core is woken whenever it wants to be."""
        end, effects = self.now + seconds, []
        while (deadline := self.core.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            effects += self.handle(Tick())
        self.now = end
        return effects

    def stall(self, seconds: float) -> list[Effect]:
        """The process stands still, then is woken once."""
        self.now += seconds
        return self.handle(Tick())

    # --- then ---

    def state(self, job_id: str) -> str:
        """Where a live job is; ``gone`` when it is not live."""
        if job_id not in self.shop.ledger.jobs:
            return "gone"
        return type(self.shop.ledger.jobs[job_id].state).__name__.lower()


def sends(effects: list[Effect]) -> list[tuple[Session, Wire]]:
    """What was sent, and to whom."""
    return [(e.session, e.message) for e in effects if isinstance(e, Send)]


def told(effects: list[Effect], session: Session) -> list[Wire]:
    """What one peer was sent."""
    return [message for to, message in sends(effects) if to == session]


def assigned(effects: list[Effect]) -> list[tuple[str, int]]:
    """Which attempts were given away."""
    return [
        (message.job.job_id, message.attempt)
        for _, message in sends(effects)
        if isinstance(message, Assign)
    ]


def records(effects: list[Effect]) -> list[Record]:
    """What was made durable."""
    return [effect.record for effect in effects if isinstance(effect, Append)]


def closed(effects: list[Effect]) -> list[tuple[Session, str]]:
    """Which sessions were ended, and why."""
    return [(e.session, e.reason) for e in effects if isinstance(e, Close)]
