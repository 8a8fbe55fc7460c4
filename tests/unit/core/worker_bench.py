"""A worker core whose books are compared after every step."""

from tests.simulation.checks import check_bench
from tests.unit.core.samples import capacity, job, result

from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign, Registered, ToWorker
from lineshaft_worker.core.identity import Identity
from lineshaft_worker.core.io import (
    AttemptEnded,
    AttemptKey,
    BlobsArrived,
    Connect,
    Connected,
    Disconnected,
    Effect,
    Event,
    FetchBlobs,
    Received,
    Send,
    StartAttempt,
    Tick,
)
from lineshaft_worker.core.machine import WorkerCore
from lineshaft_worker.core.settings import CoreSettings


class WorkerBench:
    """One worker; ``now`` is its clock."""

    def __init__(
        self,
        offers: Capacity | None = None,
        *,
        adopted: tuple[tuple[Assign, int], ...] = (),
        acked_s_ago: float | None = None,
    ) -> None:
        self.now = 100.0
        self.offers = offers or capacity()
        self.session: Session | None = None
        self._sessions = 0
        self.core = WorkerCore(
            CoreSettings(),
            identity=Identity(
                worker_id=WorkerId("w1"),
                incarnation="i1",
                capabilities={},
                versions=Versions(),
            ),
            capacity=self.offers,
            now=self.now,
            adopted=adopted,
            acked_at=None if acked_s_ago is None else self.now - acked_s_ago,
        )

    # --- given ---

    def connected(self) -> list[Effect]:
        """The connection asked for is open; what the core does first."""
        self.after(60.0, until=Connect)
        self._sessions += 1
        self.session = Session(self._sessions)
        return self.handle(Connected(self.session))

    def registered(self) -> list[Effect]:
        """The coordinator answered Register; what the core does then."""
        if self.session is None:
            self.connected()
        return self.receive(
            Registered(
                worker_id="w1",
                protocol=1,
                epoch=1,
                heartbeat_s=5.0,
                silence_s=20.0,
                lease_s=450.0,
            )
        )

    def cut(self) -> list[Effect]:
        """The connection is gone."""
        session, self.session = self.session, None
        return self.handle(Disconnected(session))

    def runs(self, job_id: str, attempt: int = 1, **wanted: object) -> AttemptKey:
        """An attempt that is being executed."""
        effects = self.assign(job_id, attempt, **wanted)
        key = AttemptKey(JobId(job_id), attempt)
        if any(isinstance(effect, FetchBlobs) for effect in effects):
            effects = self.handle(BlobsArrived(key))
        assert any(isinstance(e, StartAttempt) and e.key == key for e in effects)
        return key

    # --- when ---

    def assign(
        self,
        job_id: str,
        attempt: int = 1,
        *,
        devices: tuple[str, ...] | None = None,
        expected_s: float | None = None,
        lease_s: float | None = None,
        **wanted: object,
    ) -> list[Effect]:
        """The coordinator wants an attempt run."""
        spec: JobSpec = job(job_id, **wanted)
        return self.receive(
            Assign(
                job=spec,
                attempt=attempt,
                epoch=1,
                devices=devices,
                expected_s=expected_s,
                lease_s=lease_s,
                lease_grace_s=None if lease_s is None else lease_s / 10,
            )
        )

    def receive(self, message: ToWorker) -> list[Effect]:
        """The coordinator says something on the present session."""
        assert self.session is not None, "somebody must have connected"
        return self.handle(Received(self.session, message))

    def ends(
        self,
        key: AttemptKey,
        status: str = "succeeded",
        *,
        must_store: bool = False,
        gone_pid: int | None = None,
    ) -> list[Effect]:
        """No process of the attempt is left."""
        told = result(key.job_id, key.attempt, status)
        return self.handle(AttemptEnded(key, told, must_store=must_store, gone_pid=gone_pid))

    def handle(self, event: Event) -> list[Effect]:
        """Anything happens."""
        effects = self.core.handle((event,), self.now)
        check_bench(self.core)
        return effects

    def after(self, seconds: float, *, until: type[object] | None = None) -> list[Effect]:
        """Time passes, at most until such an effect."""
        end, effects = self.now + seconds, []
        while (deadline := self.core.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            new = self.handle(Tick())
            effects += new
            if until is not None and any(isinstance(effect, until) for effect in new):
                return effects
        self.now = end
        return effects


def said(effects: list[Effect]) -> list[Wire]:
    """What the coordinator was told."""
    return [effect.message for effect in effects if isinstance(effect, Send)]


def begun(effects: list[Effect]) -> list[tuple[str, int]]:
    """Which attempts were given to which lanes."""
    return [(e.key.job_id, e.lane) for e in effects if isinstance(e, StartAttempt)]
