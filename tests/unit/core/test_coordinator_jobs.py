"""What becomes of a job: accepted once, ended once."""

import pytest
from tests.unit.core.coordinator_bench import (
    CoordinatorBench,
    assigned,
    closed,
    records,
    sends,
    told,
)
from tests.unit.core.samples import (
    cancel_requested,
    cancelled,
    ended,
    finished,
    job,
    left,
    started,
    submitted,
    succeeded,
)

from lineshaft_coordinator.core.io import (
    POLICY,
    PROTOCOL_FAULT,
    Append,
    Close,
    Found,
    Lookup,
    Received,
    Send,
    StopPlacing,
)
from lineshaft_coordinator.core.records import JobFinished
from lineshaft_protocol.client_messages import (
    Accepted,
    Cancel,
    ClientHello,
    Finished,
    Ping,
    Pong,
    Refused,
    Submit,
    Watch,
)
from lineshaft_protocol.jobs import Parent, Timeouts
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.worker_messages import Held, Settled, Stop


def test_an_accepted_job_is_recorded_before_it_is_told(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    effects = coordinator.submit(client, "j1")

    assert effects == [Send(client, Accepted(job_id="j1")), Append(submitted("j1"))]


def test_a_job_submitted_again_is_accepted_once(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j1")

    effects = coordinator.submit(client, "j1")

    assert effects == [Send(client, Accepted(job_id="j1"))]


def test_a_job_submitted_again_after_its_end_is_told_its_outcome(
    coordinator: CoordinatorBench,
) -> None:
    worker, client = coordinator.worker(), coordinator.client()
    coordinator.submit(client, "j1")
    coordinator.receive(worker, ended("j1", 1))

    effects = coordinator.submit(client, "j1")

    outcome = succeeded("j1", 1, on="w1")
    assert effects == [
        Send(client, Accepted(job_id="j1")),
        Send(client, Finished(outcome=outcome)),
    ]


def test_another_job_under_a_known_id_is_refused(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"))
    client = coordinator.client()

    effects = coordinator.submit(client, "j1", priority=7)

    refused = Refused(job_id="j1", code="duplicate_id", message="another job has this id")
    assert effects == [Send(client, refused)]


def test_a_repeated_submit_of_an_unknown_job_asks_the_store_first(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    submit = Submit(job=job("j1"), is_repeat=True)

    asked = coordinator.receive(client, submit)
    found = coordinator.handle(Found("j1", None, None))

    assert asked == [Lookup("j1")]
    assert found == [Send(client, Accepted(job_id="j1")), Append(submitted("j1"))]


def test_a_repeated_submit_of_a_job_that_left_memory_is_told_its_outcome(
    coordinator: CoordinatorBench,
) -> None:
    client, outcome = coordinator.client(), succeeded("j1", 1, on="w1")
    coordinator.receive(client, Submit(job=job("j1"), is_repeat=True))

    effects = coordinator.handle(Found("j1", job("j1"), outcome))

    assert effects == [
        Send(client, Accepted(job_id="j1")),
        Send(client, Finished(outcome=outcome)),
    ]


def test_a_new_process_that_submits_a_job_that_ended_long_ago_is_told_its_outcome(
    coordinator: CoordinatorBench,
) -> None:
    client, outcome = coordinator.client(), succeeded("j1", 1, on="w1")

    asked = coordinator.receive(client, Submit(job=job("j1")))
    effects = coordinator.handle(Found("j1", job("j1"), outcome))

    assert asked == [Lookup("j1")]
    assert effects == [
        Send(client, Accepted(job_id="j1")),
        Send(client, Finished(outcome=outcome)),
    ]


def test_another_job_under_the_id_of_one_that_ended_long_ago_is_refused(
    coordinator: CoordinatorBench,
) -> None:
    client, outcome = coordinator.client(), succeeded("j1", 1, on="w1")
    coordinator.receive(client, Submit(job=job("j1", priority=5)))

    effects = coordinator.handle(Found("j1", job("j1"), outcome))

    refused = Refused(job_id="j1", code="duplicate_id", message="another job had this id")
    assert effects == [Send(client, refused)]


def test_a_new_id_costs_no_question_to_the_store(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    effects = coordinator.receive(client, Submit(job=job("j1"), is_fresh=True))

    assert effects == [Send(client, Accepted(job_id="j1")), Append(submitted("j1"))]


def test_a_cancel_behind_a_repeated_submit_is_handled_after_it(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    coordinator.receive(client, Submit(job=job("j1"), is_repeat=True))
    coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    effects = coordinator.handle(Found("j1", None, None))

    assert told(effects, client) == [
        Accepted(job_id="j1"),
        Finished(outcome=cancelled("j1", 0)),
    ]


def test_a_watch_waits_for_a_submit_that_waits_for_a_lookup(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j2", after=("j1",))

    effects = coordinator.receive(client, Watch(job_id="j2"))
    effects += coordinator.handle(Found("j1", job("j1"), succeeded("j1", 1, on="w1")))

    assert told(effects, client) == [Accepted(job_id="j2")]


def test_a_job_that_comes_after_itself_is_refused(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    effects = coordinator.submit(client, "j1", after=("j1",))

    refused = Refused(job_id="j1", code="invalid", message="a job cannot come after itself")
    assert effects == [Send(client, refused)]


def test_a_job_after_one_that_nobody_knows_is_refused(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    asked = coordinator.submit(client, "j2", after=("j1",))
    effects = coordinator.handle(Found("j1", None, None))

    text = "nobody knows job j1, which it should come after"
    assert asked == [Lookup("j1")]
    assert effects == [
        Send(client, Refused(job_id="j2", code="unknown_job", message=text)),
    ]


def test_a_client_cannot_submit_the_child_of_a_plan(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    effects = coordinator.submit(client, "j1", parent=Parent(job_id="p", attempt=1))

    text = "only a running plan has children"
    assert effects == [Send(client, Refused(job_id="j1", code="invalid", message=text))]


def test_a_coordinator_that_stops_keeps_nothing_new(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.worker()
    coordinator.handle(StopPlacing())

    effects = coordinator.submit(client, "j1")

    assert [
        (to, message.code) for to, message in sends(effects) if isinstance(message, Refused)
    ] == [(client, "draining")]
    assert records(effects) == []


def test_too_many_jobs_are_refused(coordinator: CoordinatorBench) -> None:
    coordinator.settings = coordinator.settings.model_copy(update={"live_jobs_max": 1})
    client = coordinator.client()
    coordinator.submit(client, "j1")

    effects = coordinator.submit(client, "j2")

    text = "1 jobs are waiting or running already; submit again when some have ended"
    assert effects == [Send(client, Refused(job_id="j2", code="too_many_jobs", message=text))]


# --- cancel ---


def test_a_waiting_job_is_cancelled_at_once(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"))
    client = coordinator.client()

    effects = coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    outcome = cancelled("j1", 0)
    assert effects == [Append(finished(outcome)), Send(client, Finished(outcome=outcome))]


def test_a_running_job_is_cancelled_when_its_worker_says_it_is_over(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")

    asked = coordinator.receive(client, Cancel(job_id="j1", reason="enough"))
    over = coordinator.receive(worker, ended("j1", 1, "stopped"))

    outcome = cancelled("j1", 1, on="w1")
    assert asked == [
        Append(cancel_requested("j1")),
        Send(worker, Stop(job_id="j1", attempt=1, reason="enough")),
    ]
    assert over == [
        Append(finished(outcome)),
        Send(client, Finished(outcome=outcome)),
        Send(worker, Settled(job_id="j1", attempt=1)),
    ]


def test_a_job_that_succeeds_while_it_is_cancelled_has_succeeded(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    coordinator.receive(client, Cancel(job_id="j1"))

    effects = coordinator.receive(worker, ended("j1", 1))

    assert records(effects) == [finished(succeeded("j1", 1, on="w1"))]


def test_a_cancelled_job_that_fails_is_not_tried_again(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1", retries=5)
    coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    effects = coordinator.receive(worker, ended("j1", 1, "failed"))

    assert records(effects) == [finished(cancelled("j1", 1, on="w1"))]


def test_a_job_cancelled_while_its_worker_is_away_is_stopped_when_it_returns(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1", kind="pipeline"), started("j1", 1, on="w1"))
    client = coordinator.client()
    coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    worker, effects = coordinator.register(
        "w1", held=(Held(job_id="j1", attempt=1, is_running=True),)
    )

    assert told(effects, worker)[1:] == [Stop(job_id="j1", attempt=1, reason="enough")]


def test_a_job_cancelled_on_a_lost_worker_says_that_its_end_was_not_seen(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1"), started("j1", 1, on="w1"))
    client = coordinator.client()
    coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    effects = coordinator.after(31.0)

    reason = "enough; worker w1 was lost, so the end of its processes was not seen"
    assert records(effects) == [finished(cancelled("j1", 1, on="w1", reason=reason))]


def test_cancelling_a_job_that_ended_tells_how_it_ended(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    coordinator.receive(worker, ended("j1", 1))

    effects = coordinator.receive(client, Cancel(job_id="j1"))

    assert effects == [Send(client, Finished(outcome=succeeded("j1", 1, on="w1")))]


def test_cancelling_a_job_that_nobody_knows_says_so(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.receive(client, Cancel(job_id="j1"))

    effects = coordinator.handle(Found("j1", None, None))

    text = "no such job; it may have been pruned with the history"
    assert effects == [Send(client, Refused(job_id="j1", code="unknown_job", message=text))]


# --- retries ---


def test_a_failed_job_runs_again_after_a_while(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1", retries=1)

    failed = coordinator.receive(worker, ended("j1", 1, "failed"))
    too_early = coordinator.after(0.99)
    in_time = coordinator.after(0.02)

    assert [record.type for record in records(failed)] == ["AttemptLeft"]
    assert assigned(too_early) == []
    assert assigned(in_time) == [("j1", 2)]


def test_the_wait_before_a_retry_doubles(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1", retries=3)
    coordinator.receive(worker, ended("j1", 1, "failed"))
    coordinator.after(1.0)

    coordinator.receive(worker, ended("j1", 2, "failed"))

    assert assigned(coordinator.after(1.99)) == []
    assert assigned(coordinator.after(0.02)) == [("j1", 3)]


def test_a_job_without_retries_left_has_failed(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")

    effects = coordinator.receive(worker, ended("j1", 1, "failed"))

    outcome = Outcome(
        job_id="j1",
        status="failed",
        attempt=1,
        failure=Failure(cause="exception", message="it raised"),
        worker_id="w1",
        run_s=1.0,
    )
    assert records(effects) == [finished(outcome)]


def test_a_lost_worker_does_not_use_up_retries(coordinator: CoordinatorBench) -> None:
    coordinator.given(
        submitted("j1", retries=1),
        started("j1", 1, on="w9"),
        left("j1", 1, "worker_lost"),
    )
    worker = coordinator.worker()

    effects = coordinator.receive(worker, ended("j1", 2, "failed"))

    assert [record.type for record in records(effects)] == ["AttemptLeft"]


# --- dependencies ---


def test_a_job_starts_once_all_it_comes_after_have_succeeded(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    coordinator.submit(client, "j2")
    coordinator.submit(client, "j3", after=("j1", "j2"))

    first = coordinator.receive(worker, ended("j1", 1))
    second = coordinator.receive(worker, ended("j2", 1))

    assert assigned(first) == [("j2", 1)]
    assert assigned(second) == [("j3", 1)]


def test_a_failed_job_fails_the_whole_chain_after_it(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    coordinator.submit(client, "j2", after=("j1",))
    coordinator.submit(client, "j3", after=("j2",))

    effects = coordinator.receive(worker, ended("j1", 1, "failed"))

    ends = [record.outcome for record in records(effects) if isinstance(record, JobFinished)]
    assert [(end.job_id, end.status) for end in ends] == [
        ("j1", "failed"),
        ("j2", "failed"),
        ("j3", "failed"),
    ]
    assert [end.failure.message for end in ends if end.failure is not None] == [
        "it raised",
        "job j1, which it comes after, ended as failed",
        "job j2, which it comes after, ended as failed",
    ]


def test_a_chain_longer_than_the_stack_ends(coordinator: CoordinatorBench) -> None:
    chain = [submitted("j0")] + [submitted(f"j{n}", after=(f"j{n - 1}",)) for n in range(1, 3000)]
    coordinator.given(*chain)
    client = coordinator.client()

    effects = coordinator.receive(client, Cancel(job_id="j0"))

    assert len(records(effects)) == 3000


def test_a_job_after_one_that_failed_long_ago_fails_at_once(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j2", after=("j1",))

    effects = coordinator.handle(Found("j1", job("j1"), cancelled("j1", 0)))

    answers = told(effects, client)
    assert answers[0] == Accepted(job_id="j2")
    assert isinstance(answers[1], Finished)
    assert answers[1].outcome.failure == Failure(
        cause="dependency", message="job j1, which it comes after, ended as cancelled"
    )


def test_dependencies_survive_a_restart(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"), submitted("j2", after=("j1",)))
    _, first = coordinator.register("w1")

    coordinator.restart()

    assert assigned(first) == [("j1", 1)]
    assert list(coordinator.shop.blocked) == ["j2"]


# --- time limits ---


def test_a_job_that_waits_longer_than_it_allows_has_failed(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j1", timeouts=Timeouts(queue_s=5.0))

    early, late = coordinator.after(4.9), coordinator.after(0.2)

    assert records(early) == []
    assert [record.outcome.failure for record in records(late) if record.type == "JobFinished"] == [
        Failure(cause="queue_timeout", message="no worker took it within its queue_timeout of 5 s")
    ]


# --- peers that misbehave ---


def test_a_client_that_does_not_say_hello_is_closed(coordinator: CoordinatorBench) -> None:
    session = coordinator._connect("client")

    effects = coordinator.submit(session, "j1")

    assert effects == [Close(session, PROTOCOL_FAULT, "the first message must be ClientHello")]


def test_a_client_of_a_future_protocol_is_told_what_we_speak(coordinator: CoordinatorBench) -> None:
    session = coordinator._connect("client")
    hello = ClientHello(client_id="c", versions=Versions(protocol_min=9, protocol_max=9))

    effects = coordinator.receive(session, hello)

    text = "this coordinator speaks protocol 1 to 1; upgrade the older side"
    assert effects == [Close(session, POLICY, text)]


@pytest.mark.parametrize("pings", [0, 3])
def test_a_silent_client_is_closed_and_a_talking_one_is_not(
    coordinator: CoordinatorBench, pings: int
) -> None:
    client = coordinator.client()
    for _ in range(pings):
        coordinator.after(50.0)
        assert coordinator.receive(client, Ping()) == [Send(client, Pong())]

    assert closed(coordinator.after(59.9)) == []
    assert closed(coordinator.after(0.2)) == [(client, "silent for 60 s")]


def test_a_message_on_a_session_that_is_gone_is_harmless(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j1")
    coordinator.disconnect(client)

    effects = coordinator.handle(Received(client, Cancel(job_id="j1")))

    assert closed(effects) == [(client, "the first message must be Register")]
    assert coordinator.state("j1") == "queued"


def test_who_speaks_of_a_job_that_cannot_be_looked_up_is_refused_with_the_reason(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j2", after=("j1",))
    coordinator.receive(client, Watch(job_id="j2"))
    coordinator.receive(client, Submit(job=job("j1"), is_repeat=True))
    coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    effects = coordinator.handle(Found("j1", None, None, problem="its records are odd"))
    again = coordinator.submit(client, "j2")

    refused = [
        Refused(job_id=job_id, code="invalid", message="its records are odd")
        for job_id in ("j2", "j2", "j1", "j1")
    ]
    assert effects == [Send(client, each) for each in refused]
    assert told(again, client) == [Accepted(job_id="j2")]
