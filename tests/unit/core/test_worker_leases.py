"""How long an attempt goes on without the coordinator: each as long as its own lease says."""

from itertools import pairwise

import pytest
from tests.unit.core.samples import job
from tests.unit.core.worker_bench import WorkerBench, begun, said

from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import Timeouts
from lineshaft_protocol.worker_messages import Assign, Heartbeat, HeartbeatAck
from lineshaft_worker.core.io import AttemptKey, Close, KeepLeases, Send, StopAttempt
from lineshaft_worker.core.leases import BEAT_S_MIN

J1, J2 = AttemptKey(JobId("j1"), 1), AttemptKey(JobId("j2"), 1)


@pytest.fixture
def worker() -> WorkerBench:
    bench = WorkerBench()
    bench.registered()
    return bench


def test_each_attempt_ends_with_its_own_lease(worker: WorkerBench) -> None:
    worker.receive(HeartbeatAck(sent_at=worker.now))
    worker.assign("j1", lease_s=60.0)
    worker.assign("j2", lease_s=2000.0)
    cut_at = worker.now
    worker.cut()

    first = worker.after(3000.0, until=StopAttempt)
    first_at = worker.now
    worker.ends(J1, "stopped")
    second = worker.after(3000.0, until=StopAttempt)

    assert [e for e in first if isinstance(e, StopAttempt)] == [StopAttempt(J1, 6.0)]
    assert first_at == cut_at + 60.0
    assert [e for e in second if isinstance(e, StopAttempt)] == [StopAttempt(J2, 200.0)]
    assert worker.now == cut_at + 2000.0


def test_a_short_lease_makes_a_worker_speak_more_often(worker: WorkerBench) -> None:
    worker.receive(HeartbeatAck(sent_at=worker.now))

    worker.assign("j1", lease_s=8.0)
    said_at: list[float] = []
    for _ in range(3):
        beat = next(m for m in said(worker.after(60.0, until=Send)) if isinstance(m, Heartbeat))
        worker.receive(HeartbeatAck(sent_at=beat.sent_at))
        said_at.append(worker.now)

    assert [round(b - a, 6) for a, b in pairwise(said_at)] == [2.0, 2.0]


def test_a_connection_without_answers_does_not_prolong_a_lease(worker: WorkerBench) -> None:
    worker.receive(HeartbeatAck(sent_at=worker.now))
    acked_at = worker.now
    worker.assign("j1", lease_s=8.0)

    effects = worker.after(100.0, until=StopAttempt)

    assert any(isinstance(effect, Close) for effect in effects)
    assert StopAttempt(J1, 0.8) in effects
    assert worker.now == acked_at + 8.0


def test_an_attempt_with_a_short_lease_starts_once_a_heartbeat_was_answered(
    worker: WorkerBench,
) -> None:
    worker.receive(HeartbeatAck(sent_at=worker.now))
    worker.after(4.0)

    early = worker.assign("j1", lease_s=2.0)
    beats = [m for m in said(worker.after(0.01)) if isinstance(m, Heartbeat)]
    late = worker.receive(HeartbeatAck(sent_at=beats[0].sent_at))

    assert begun(early) == []
    assert begun(late) == [("j1", 0)]


def test_a_job_does_not_begin_beside_an_older_attempt_of_itself(worker: WorkerBench) -> None:
    key = worker.runs("j1", 1)

    early = worker.assign("j1", 2)
    late = worker.ends(key, "stopped")

    assert begun(early) == []
    assert begun(late) == [("j1", 0)]


@pytest.mark.parametrize("lost_after_s", [2.0, 10.0, 60.0, 600.0, 3600.0, 86400.0])
def test_a_lease_and_its_end_fit_into_lost_after_on_wrong_clocks(lost_after_s: float) -> None:
    settings = CoreSettings()
    timeouts = Timeouts(lost_after_s=lost_after_s)

    lease_s, grace_s = settings.lease_of(job("j1", timeouts=timeouts))

    ending_s = min(settings.ending_s, lost_after_s / 4)
    assert lease_s > 0
    assert 3 * grace_s <= ending_s + 1e-9
    # The worker's clock runs a tenth too slow, ours a tenth too fast.
    assert (lease_s + ending_s) / 0.9 < lost_after_s / 1.1


def test_a_healthy_worker_keeps_a_job_however_soon_it_is_to_be_given_away() -> None:
    settings = CoreSettings()

    for lost_after_s in (0.1, 0.5, 1.9, 2.0, 3.0):
        lease_s, _ = settings.lease_of(job("j1", timeouts=Timeouts(lost_after_s=lost_after_s)))

        assert lease_s > 2 * BEAT_S_MIN, "an answer may be late once"


def test_functions_that_say_nothing_of_it_outlive_a_restart_of_the_coordinator() -> None:
    settings = CoreSettings()

    lease_s, _ = settings.lease_of(job("j1"))

    assert lease_s == settings.lease_brief_s
    assert lease_s > settings.recovery_s


def test_an_adopted_attempt_keeps_its_lease() -> None:
    assign = Assign(job=job("j1"), attempt=1, epoch=1, lease_s=30.0, lease_grace_s=3.0)
    worker = WorkerBench(adopted=((assign, 0),))

    effects = worker.after(31.0)

    assert StopAttempt(J1, 3.0) in effects


def test_a_lease_counts_from_what_the_daemon_before_us_heard() -> None:
    assign = Assign(job=job("j1"), attempt=1, epoch=1, lease_s=30.0, lease_grace_s=3.0)
    worker = WorkerBench(adopted=((assign, 0),), acked_s_ago=20.0)
    began_at = worker.now

    effects = worker.after(100.0, until=StopAttempt)

    assert StopAttempt(J1, 3.0) in effects
    assert worker.now == began_at + 10.0


def test_what_outlived_its_lease_is_ended_at_once() -> None:
    assign = Assign(job=job("j1"), attempt=1, epoch=1, lease_s=30.0, lease_grace_s=3.0)
    worker = WorkerBench(adopted=((assign, 0),), acked_s_ago=3000.0)

    assert StopAttempt(J1, 3.0) in worker.after(0.01)


def test_each_answered_heartbeat_renews_the_leases_that_others_watch(worker: WorkerBench) -> None:
    sent_at = worker.now

    assert worker.receive(HeartbeatAck(sent_at=sent_at)) == [KeepLeases(sent_at, 450.0)]
    worker.cut()
    worker.after(5.0)
    worker.connected()
    again_at = worker.now
    worker.after(1.0)

    assert KeepLeases(again_at, 450.0) in worker.registered()
