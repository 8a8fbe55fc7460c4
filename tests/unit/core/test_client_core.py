"""What a client does by itself: each job is submitted until accepted, and ends here once."""

import pytest
from tests.unit.core.samples import cancelled, event, job, succeeded

from lineshaft.core.io import (
    Answered,
    CancelAsked,
    Close,
    Connect,
    Connected,
    Disconnected,
    Effect,
    Event,
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
from lineshaft_protocol.client_messages import (
    Accepted,
    Answer,
    Cancel,
    ClientHello,
    Drain,
    Events,
    Finished,
    Ping,
    Pong,
    Refused,
    Retry,
    StateChanged,
    Submit,
    ToClient,
    Unwatch,
    Watch,
    Welcome,
)
from lineshaft_protocol.ids import ClientId, JobId, Session
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire

J1 = JobId("j1")
OUTCOME = succeeded("j1", 1, on="w1")


class ClientBench:
    """One client; ``now`` is its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.session: Session | None = None
        self._sessions = 0
        self._core = ClientCore(
            CoreSettings(), client_id=ClientId("c"), versions=Versions(), now=self.now
        )

    def welcomed(self, *, features: tuple[str, ...] = ()) -> list[Effect]:
        """The coordinator answered hello; what the core does then."""
        self.after(60.0, until=Connect)
        self._sessions += 1
        self.session = Session(self._sessions)
        self.handle(Connected(self.session))
        return self.receive(Welcome(protocol=1, epoch=4, silence_s=60.0, features=features))

    def cut(self) -> list[Effect]:
        """The connection is gone."""
        session, self.session = self.session, None
        return self.handle(Disconnected(session))

    def receive(self, message: ToClient) -> list[Effect]:
        """The coordinator says something on the present session."""
        assert self.session is not None, "somebody must have connected"
        return self.handle(Received(self.session, message))

    def handle(self, what: Event) -> list[Effect]:
        """Anything happens."""
        return self._core.handle((what,), self.now)

    def after(self, seconds: float, *, until: type[object] | None = None) -> list[Effect]:
        """Time passes, at most until such an effect."""
        end, effects = self.now + seconds, []
        while (deadline := self._core.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            new = self.handle(Tick())
            effects += new
            if until is not None and any(isinstance(effect, until) for effect in new):
                return effects
        self.now = end
        return effects


def said(effects: list[Effect]) -> list[Wire]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


@pytest.fixture
def client() -> ClientBench:
    return ClientBench()


def test_it_says_hello_first(client: ClientBench) -> None:
    dialled = client.after(0.0)

    effects = client.handle(Connected(Session(1)))

    assert dialled == [Connect()]
    assert said(effects) == [ClientHello(client_id="c", versions=Versions())]


def test_a_job_asked_for_before_the_connection_is_submitted_with_it(client: ClientBench) -> None:
    early = client.handle(SubmitAsked(job("j1")))

    effects = client.welcomed()

    assert early == []
    assert effects == [Welcomed(4), Send(Session(1), Submit(job=job("j1"), is_fresh=True))]


def test_a_job_that_was_not_accepted_is_submitted_again(client: ClientBench) -> None:
    client.welcomed()
    first = client.handle(SubmitAsked(job("j1")))
    client.cut()

    assert said(first) == [Submit(job=job("j1"), is_fresh=True)]
    assert said(client.welcomed()) == [Submit(job=job("j1"), is_repeat=True)]


def test_a_job_that_was_accepted_is_watched_again(client: ClientBench) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))

    first, second = (client.receive(Accepted(job_id="j1")) for _ in range(2))
    client.cut()

    assert first == [JobAccepted(J1)]
    assert second == []
    assert said(client.welcomed()) == [Watch(job_id="j1")]


def test_a_job_ends_once(client: ClientBench) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))

    effects = [client.receive(Finished(outcome=OUTCOME)) for _ in range(2)]

    assert effects == [[JobFinished(OUTCOME)], []]


def test_a_refused_job_is_not_asked_for_again(client: ClientBench) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))

    effects = client.receive(Refused(job_id="j1", code="unplaceable", message="too large"))
    client.cut()

    assert effects == [JobRefused(J1, "unplaceable", "too large")]
    assert said(client.welcomed()) == []


def test_a_cancellation_is_repeated_until_the_job_has_ended(client: ClientBench) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))
    client.receive(Accepted(job_id="j1"))

    asked = client.handle(CancelAsked(J1, "enough"))
    client.cut()
    again = client.welcomed()
    client.receive(Finished(outcome=cancelled("j1", 0)))
    client.cut()

    cancel = Cancel(job_id="j1", reason="enough")
    assert said(asked) == [cancel]
    assert said(again) == [Watch(job_id="j1"), cancel]
    assert said(client.welcomed()) == []


# --- events ---


def test_events_come_once_and_in_order(client: ClientBench) -> None:
    client.welcomed()
    client.handle(WatchAsked(J1, events=True))

    first = client.receive(Events(events=(event("j1", 1, 1), event("j1", 1, 2))))
    again = client.receive(Events(events=(event("j1", 1, 2), event("j1", 1, 3))))
    next_attempt = client.receive(Events(events=(event("j1", 2, 1),)))
    late = client.receive(Events(events=(event("j1", 1, 4),)))

    assert first == [JobSpoke(J1, (event("j1", 1, 1), event("j1", 1, 2)))]
    assert again == [JobSpoke(J1, (event("j1", 1, 3),))]
    assert next_attempt == [JobSpoke(J1, (event("j1", 2, 1),))]
    assert late == []


def test_a_job_that_said_more_than_was_told_is_known_to_be_behind(client: ClientBench) -> None:
    client.welcomed()
    client.handle(WatchAsked(J1, events=True))

    told = client.receive(Events(events=(event("j1", 1, 1),), left_out="j1"))
    others = client.receive(Events(events=(), left_out="j2"))

    assert told == [JobSpoke(J1, (event("j1", 1, 1),)), JobSpoke(J1, (), is_behind=True)]
    assert others == []


def test_events_are_asked_for_from_the_last_that_came(client: ClientBench) -> None:
    client.welcomed()
    client.handle(WatchAsked(J1, events=True))
    client.receive(Events(events=(event("j1", 2, 7),)))
    client.cut()

    watch = Watch(job_id="j1", events=True, after_attempt=2, after_seq=7)
    assert said(client.welcomed()) == [watch]


def test_a_submit_repeated_asks_for_the_events_itself(client: ClientBench) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))
    client.handle(WatchAsked(J1, events=True))
    client.cut()

    assert said(client.welcomed()) == [Submit(job=job("j1"), is_repeat=True, events=True)]


def test_an_end_without_the_events_is_not_the_last_word_for_who_wants_them(
    client: ClientBench,
) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))
    client.handle(WatchAsked(J1, events=True))

    crossed = client.receive(Finished(outcome=OUTCOME))
    spoke = client.receive(Events(events=(event("j1", 1, 1),)))
    ended = client.receive(Finished(outcome=OUTCOME, events=True))

    assert crossed == []
    assert spoke == [JobSpoke(J1, (event("j1", 1, 1),))]
    assert ended == [JobFinished(OUTCOME)]


def test_where_a_job_is_is_told_while_somebody_waits_for_it(client: ClientBench) -> None:
    client.welcomed()
    client.handle(WatchAsked(J1, events=True))
    change = StateChanged(job_id="j1", state="running", attempt=1)

    assert client.receive(change) == [JobMoved(change)]
    assert client.receive(StateChanged(job_id="j2", state="running", attempt=1)) == []


# --- questions ---


def test_a_question_is_asked_until_it_is_answered(client: ClientBench) -> None:
    client.welcomed()
    drain = Drain(request_id=7, worker_id="w1")
    client.handle(RequestAsked(7, drain))
    client.cut()

    again = client.welcomed()
    answers = [client.receive(Answer(request_id=7, data={"draining": True})) for _ in range(2)]

    assert said(again) == [drain]
    assert answers == [[Answered(7, {"draining": True}, None)], []]


def test_an_older_coordinator_is_not_asked_to_do_a_job_again(client: ClientBench) -> None:
    early = client.handle(RequestAsked(7, Retry(request_id=7, job_id="j1")))
    welcomed = client.welcomed()
    late = client.handle(RequestAsked(8, Retry(request_id=8, job_id="j1")))
    client.cut()

    assert early == said(welcomed) == []
    assert Answered(7, None, None, lacks="retry") in welcomed
    assert late == [Answered(8, None, None, lacks="retry")]
    assert said(client.welcomed()) == []


def test_a_coordinator_that_can_do_jobs_again_is_asked_to(client: ClientBench) -> None:
    retry = Retry(request_id=7, job_id="j1")
    client.handle(RequestAsked(7, retry))

    assert said(client.welcomed(features=("retry",))) == [retry]


# --- the connection ---


def test_it_speaks_when_there_is_nothing_to_say(client: ClientBench) -> None:
    client.welcomed()

    assert said(client.after(10.0)) == [Ping()]
    assert client.receive(Pong()) == []


def test_a_silent_coordinator_is_left_and_dialled_again(client: ClientBench) -> None:
    client.welcomed()

    effects = client.after(30.0, until=Close)

    assert effects[-1] == Close(Session(1), "the coordinator was silent for 30 s")
    assert client.after(0.1) == [Connect()]


def test_waiting_before_the_next_try_doubles_up_to_a_limit(client: ClientBench) -> None:
    client.after(0.0)
    waits = []
    for _ in range(8):
        before = client.now
        client.handle(Disconnected(None))
        client.after(60.0, until=Connect)
        waits.append(round(client.now - before, 3))

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_connection_that_does_not_open_is_tried_again(client: ClientBench) -> None:
    client.after(0.0)

    assert client.after(10.0) == [Connect()]


def test_what_comes_on_an_old_session_is_not_heard(client: ClientBench) -> None:
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))
    old = client.session
    assert old is not None
    client.cut()
    client.welcomed()

    assert client.handle(Received(old, Finished(outcome=OUTCOME))) == []


def test_a_job_that_nobody_waits_for_any_more_is_not_watched() -> None:
    client = ClientBench()
    client.welcomed()
    assert client.session is not None
    client.handle(SubmitAsked(job("j1")))
    client.receive(Accepted(job_id="j1"))

    assert client.handle(UnwatchAsked(J1)) == [Send(client.session, Unwatch(job_id="j1"))]
    assert client.receive(Finished(outcome=OUTCOME)) == [], "it was on its way"
    client.cut()
    assert [e for e in client.welcomed() if isinstance(e, Send)] == []


def test_a_job_is_submitted_until_accepted_though_nobody_waits_for_it() -> None:
    client = ClientBench()
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))

    assert client.handle(UnwatchAsked(J1)) == []
    client.cut()
    again = client.welcomed()
    assert client.session is not None
    assert Send(client.session, Submit(job=job("j1"), is_repeat=True)) in again
    assert client.receive(Accepted(job_id="j1")) == [
        JobAccepted(J1),
        Send(client.session, Unwatch(job_id="j1")),
    ]


def test_a_wish_to_cancel_is_repeated_though_nobody_waits_for_the_job() -> None:
    client = ClientBench()
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))
    client.receive(Accepted(job_id="j1"))
    client.cut()
    client.handle(CancelAsked(J1, "enough"))

    assert client.handle(UnwatchAsked(J1)) == []
    again = client.welcomed()

    assert client.session is not None
    assert Send(client.session, Cancel(job_id="j1", reason="enough")) in again


def test_who_watches_again_after_he_left_hears_the_end() -> None:
    client = ClientBench()
    client.welcomed()
    client.handle(SubmitAsked(job("j1")))
    client.handle(UnwatchAsked(J1))

    client.handle(WatchAsked(J1))

    assert client.receive(Accepted(job_id="j1")) == [JobAccepted(J1)]
    assert client.receive(Finished(outcome=OUTCOME)) == [JobFinished(OUTCOME)]
