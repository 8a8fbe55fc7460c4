"""What clients ask, and what they are told.

A client makes the job's id, so that it may send a Submit again when it does not know whether the
first one arrived: the same job under the same id is accepted once and answered twice.
"""

from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.gangs import GangDesk
from lineshaft_coordinator.core.io import POLICY, PROTOCOL_FAULT, Replay
from lineshaft_coordinator.core.pausing import PauseDesk
from lineshaft_coordinator.core.plain import is_plain
from lineshaft_coordinator.core.refusals import refusal_of
from lineshaft_coordinator.core.roster import Roster
from lineshaft_coordinator.core.shop import ClientSession, Shop
from lineshaft_coordinator.core.states import state_of
from lineshaft_protocol.client_messages import (
    Accepted,
    Answer,
    Cancel,
    ClientHello,
    Drain,
    Finished,
    FromClient,
    Heal,
    Pause,
    Ping,
    Pong,
    RefusalCode,
    Refused,
    Resume,
    Submit,
    Unwatch,
    Watch,
    Welcome,
)
from lineshaft_protocol.ids import ClientId, JobId, Session, WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.versions import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN, Versions, settle
from lineshaft_protocol.wire import unchecked
from lineshaft_protocol.worker_messages import HealDevice

_accepted = unchecked(Accepted)


class ClientDesk:
    """Handles the messages and the silence of clients."""

    def __init__(
        self, shop: Shop, flow: JobFlow, roster: Roster, pauses: PauseDesk, gangs: GangDesk
    ) -> None:
        self._shop, self._flow, self._roster, self._pauses = shop, flow, roster, pauses
        self._gangs = gangs

    def on_connected(self, session: Session, owner: str | None) -> None:
        """A client opened a session, by a token of this id."""
        self._shop.clients[session] = ClientSession(session, self._shop.now, owner=owner)
        self._watch_silence(session)

    def on_message(self, session: Session, message: FromClient) -> None:
        """Act on what a client said on its session."""
        shop = self._shop
        client = shop.clients.get(session)
        if client is None:
            return
        client.heard_at = shop.now
        if type(message) is Submit and client.client_id is not None:
            self.on_submit(session, message)  # Before all others: there is one for every job.
            return
        if isinstance(message, ClientHello):
            self._on_hello(client, message)
            return
        if client.client_id is None:
            shop.close(session, PROTOCOL_FAULT, "the first message must be ClientHello")
            return
        match message:
            case Cancel():
                self.on_cancel(session, message)
            case Watch():
                self.on_watch(session, message)
            case Unwatch(job_id=job_id):
                self._unwatch(client, JobId(job_id))
            case Drain():
                self._on_drain(session, message)
            case Heal():
                self._on_heal(session, message)
            case Pause():
                self._pauses.on_pause(session, message)
            case Resume():
                self._pauses.on_resume(session, message)
            case Ping():
                shop.send(session, Pong())
            case _:
                shop.close(session, PROTOCOL_FAULT, f"unexpected {message.type}")

    def _on_hello(self, client: ClientSession, hello: ClientHello) -> None:
        shop = self._shop
        protocol = settle(Versions(), hello.versions)
        if protocol is None:
            text = f"this coordinator speaks protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}"
            shop.close(client.session, POLICY, f"{text}; upgrade the older side")
            return
        client.client_id = ClientId(hello.client_id)
        shop.send(
            client.session,
            Welcome(
                protocol=protocol,
                epoch=shop.epoch,
                features=tuple(f for f in FEATURES if f in hello.versions.features),
                silence_s=shop.settings.client_silence_s,
            ),
        )

    # --- jobs ---

    def on_submit(self, session: Session, submit: Submit) -> None:
        """Keep the job, or say why not."""
        shop, spec = self._shop, submit.job
        job_id = JobId(spec.job_id)
        client, ledger = shop.clients.get(session), shop.ledger
        if client is None or client.client_id is None:
            return
        if job_id in ledger.jobs or job_id in ledger.recent:
            self._on_known(session, submit, job_id)
        elif submit.is_repeat or not submit.is_fresh:
            # Its job may have ended and left memory; only a new id cannot be in the history.
            shop.look_up(job_id, session, submit)
        elif not (plain := is_plain(spec)) and job_id in (spec.after or ()):
            self._refuse(session, job_id, "invalid", "a job cannot come after itself")
        elif not plain and (unknown := self._unknown_dependency(spec)) is not None:
            shop.look_up(unknown, session, submit)
        elif (refusal := self._refusal(spec)) is not None:
            self._refuse(session, job_id, *refusal)
        else:
            # Watched before it is accepted: a job that comes after a failed one ends at once.
            self._flow.watch(job_id, session, events=bool(submit.events))
            shop.send(session, _accepted(job_id=job_id))
            self._flow.accept(spec, client.client_id, client.owner)

    def _on_known(self, session: Session, submit: Submit, job_id: JobId) -> None:
        """A job that is live, or has ended lately, is submitted once more."""
        shop = self._shop
        live, done = shop.ledger.jobs.get(job_id), shop.ledger.recent.get(job_id)
        known = live or done
        if known is None:
            shop.look_up(job_id, session, submit)  # That it ended is all that is known here.
        elif known.spec != submit.job:
            verb = "had" if live is None else "has"
            self._refuse(session, job_id, "duplicate_id", f"another job {verb} this id")
        else:
            shop.send(session, Accepted(job_id=job_id))
            self.on_watch(session, Watch(job_id=job_id, events=bool(submit.events)))

    def _unknown_dependency(self, spec: JobSpec) -> JobId | None:
        ledger = self._shop.ledger
        for other in spec.after or ():
            if other not in ledger.jobs and other not in ledger.recent:
                return JobId(other)
        return None

    def _refusal(self, spec: JobSpec) -> tuple[RefusalCode, str] | None:
        if self._shop.is_stopping:
            return "draining", "the coordinator is about to stop; submit again in a moment"
        if spec.parent is not None:
            return "invalid", "only a running plan has children"
        return refusal_of(self._shop, spec)

    def _refuse(self, session: Session, job_id: JobId, code: RefusalCode, message: str) -> None:
        self._shop.send(session, Refused(job_id=job_id, code=code, message=message))

    def on_cancel(self, session: Session, cancel: Cancel) -> None:
        """End a job, or tell how it ended before."""
        shop, job_id = self._shop, JobId(cancel.job_id)
        if job_id in shop.ledger.jobs:
            self._flow.watch(job_id, session, events=False)
            if not self._gangs.cancel(job_id, cancel.reason):
                self._flow.cancel(job_id, cancel.reason)
        elif (done := shop.ledger.recent.get(job_id)) is not None:
            shop.send(session, Finished(outcome=done.outcome))
        else:
            shop.look_up(shop.submitting.get(job_id, job_id), session, cancel)

    def on_watch(self, session: Session, watch: Watch) -> None:
        """Tell where the job is, and from now on what happens to it."""
        shop, job_id = self._shop, JobId(watch.job_id)
        done = shop.ledger.recent.get(job_id)
        if watch.events and (done is not None or job_id in shop.ledger.jobs):
            shop.effects.append(Replay(session, job_id, watch.after_attempt, watch.after_seq))
        if job_id in shop.ledger.jobs:
            self._flow.watch(job_id, session, events=watch.events)
            if watch.events:
                shop.send(session, state_of(shop, job_id))
        elif done is not None:
            shop.send(session, Finished(outcome=done.outcome, events=watch.events or None))
        else:
            shop.look_up(shop.submitting.get(job_id, job_id), session, watch)

    def on_unknown(self, session: Session, job_id: JobId) -> None:
        """Nobody knows the job that the client speaks of."""
        text = "no such job; it may have been pruned with the history"
        self._refuse(session, job_id, "unknown_job", text)

    def on_unreadable(self, session: Session, job_id: JobId, problem: str) -> None:
        """Nobody can say whether the job, or one that it should come after, is known."""
        if session in self._shop.clients:
            self._refuse(session, job_id, "invalid", problem)

    def on_unknown_dependency(self, session: Session, job_id: JobId, other: JobId) -> None:
        """Nobody knows a job that the submitted one should come after."""
        text = f"nobody knows job {other}, which it should come after"
        self._refuse(session, job_id, "unknown_job", text)

    def _unwatch(self, client: ClientSession, job_id: JobId) -> None:
        client.watched.pop(job_id, None)
        sessions = self._shop.watchers.get(job_id)
        if sessions is not None:
            sessions.pop(client.session, None)
            if not sessions:
                del self._shop.watchers[job_id]

    def _on_drain(self, session: Session, drain: Drain) -> None:
        worker = self._shop.fleet.workers.get(WorkerId(drain.worker_id))
        if worker is None or worker.session is None:
            text = f"no worker {drain.worker_id} is connected"
            self._shop.send(session, Answer(request_id=drain.request_id, error=text))
            return
        self._roster.drain(worker, stop=drain.stop)
        self._shop.send(session, Answer(request_id=drain.request_id, data={"draining": True}))

    def _on_heal(self, session: Session, heal: Heal) -> None:
        worker = self._shop.fleet.workers.get(WorkerId(heal.worker_id))
        if worker is None or worker.session is None:
            text = f"no worker {heal.worker_id} is connected"
            self._shop.send(session, Answer(request_id=heal.request_id, error=text))
            return
        gpus = worker.capacity.gpus if worker.capacity is not None else ()
        if all(gpu.uuid != heal.gpu for gpu in gpus):
            text = f"worker {heal.worker_id} has no GPU {heal.gpu}"
            self._shop.send(session, Answer(request_id=heal.request_id, error=text))
            return
        self._shop.send(worker.session, HealDevice(gpu=heal.gpu))
        self._shop.send(session, Answer(request_id=heal.request_id, data={"asked": True}))

    # --- silence ---

    def _watch_silence(self, session: Session) -> None:
        at = self._shop.clients[session].heard_at + self._shop.settings.client_silence_s
        self._shop.deadlines.set(("client", session), at)

    def on_silence(self, session: Session) -> None:
        """A client may have been silent for too long."""
        shop = self._shop
        client = shop.clients.get(session)
        if client is None:
            return
        # Compared as it was set: the difference of two floats may fall short of their distance, and
        # the same moment would be set again for ever.
        if shop.now < client.heard_at + shop.settings.client_silence_s:
            self._watch_silence(session)
            return
        shop.close(session, POLICY, f"silent for {shop.settings.client_silence_s:g} s")
        self.on_disconnected(session)

    def on_disconnected(self, session: Session) -> None:
        """Its jobs go on; nobody is told of them."""
        client = self._shop.clients.pop(session, None)
        if client is None:
            return
        self._shop.deadlines.clear(("client", session))
        for job_id in tuple(client.watched):
            self._unwatch(client, job_id)
        if client.client_id is not None:
            self._shop.queues.forget_client(client.client_id)
