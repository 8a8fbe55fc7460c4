"""How busy the machines of jobs are, from heartbeats to the columns of their records."""

from pydantic import JsonValue
from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.samples import capacity, started, submitted

from lineshaft_coordinator.core.io import Session
from lineshaft_coordinator.recorder.gauges import KEPT_MAX, WAITING_MAX, Gauges
from lineshaft_coordinator.recorder.looks import columns_of
from lineshaft_protocol.ids import JobId, WorkerId
from lineshaft_protocol.worker_messages import Heartbeat, Held

J1, J2 = JobId("j1"), JobId("j2")
LOAD: dict[str, JsonValue] = {
    "cpu_usage": 0.25,
    "memory_usage": 0.5,
    "gpu_usage": [0.1, 0.5],
    "gpu_memory_used_bytes": [0, 2048**2 * 512],
    "gpu_temperature_c": [None, 61],
    "gpu_power_w": [20.0, None],
}


def running(bench: CoordinatorBench, *, load: dict[str, JsonValue]) -> Session:
    """A worker with two GPUs, of which a job has the second."""
    bench.given(
        submitted("j1", resources={"gpus": 1}),
        started("j1", 1, on="w1", devices=("g1",)),
        submitted("j2"),
    )
    held = (Held(job_id="j1", attempt=1, is_running=True),)
    worker = bench.worker("w1", offers=capacity(gpus=2), held=held)
    bench.receive(worker, Heartbeat(worker_id=WorkerId("w1"), load=load, sent_at=1.0))
    return worker


def test_s004_18_a_job_is_told_how_its_machine_and_its_own_gpus_are() -> None:
    bench = CoordinatorBench()
    running(bench, load=LOAD)
    gauges = Gauges(bench.shop.fleet)

    for at in (10.0, 25.0):
        assert not gauges.look([J1, J2], at)
    ((job_id, ((at, seen),)),) = gauges.take().items()

    # The first time it is only noted that the job runs.
    assert (job_id, at) == (J1, 25.0)
    assert columns_of(seen) == {
        "cpu.util_pct": 25.0,
        "mem.util_pct": 50.0,
        "mem.used_gb": 16.0,
        "mem.total_gb": 32.0,
        "gpu.1.util_pct": 50.0,
        "gpu.1.mem_used_mb": 2048.0,
        "gpu.1.mem_total_mb": 24 * 1024.0,
        "gpu.1.temp_c": 61.0,
    }
    assert gauges.take() == {}


def test_s004_18_a_brief_job_is_looked_at_as_it_begins_and_as_it_ends() -> None:
    bench = CoordinatorBench()
    worker = running(bench, load=LOAD)
    gauges = Gauges(bench.shop.fleet)

    gauges.begin(J1, 10.0)
    bench.receive(worker, Heartbeat(worker_id=WorkerId("w1"), load=LOAD, sent_at=2.0))
    bench.shop.fleet.workers[WorkerId("w1")].running.pop(J1)  # It has ended.
    gauges.end(J1, 12.0)

    ((job_id, looks),) = gauges.take().items()
    assert (job_id, [at for at, _ in looks]) == (J1, [10.0, 12.0])
    assert all("gpu.1.util_pct" in columns_of(seen) for _, seen in looks)
    gauges.end(J1, 13.0)
    gauges.end(J2, 13.0)
    assert gauges.take() == {}, "it ended once"


def test_what_a_worker_told_once_is_noted_once() -> None:
    bench = CoordinatorBench()
    running(bench, load=LOAD)
    gauges = Gauges(bench.shop.fleet)

    gauges.begin(J1, 10.0)
    gauges.end(J1, 11.0)

    assert [at for at, _ in gauges.take()[J1]] == [10.0]


def test_a_job_that_leaves_no_record_and_a_worker_that_said_nothing_are_not_looked_at() -> None:
    silent, bench = CoordinatorBench(), CoordinatorBench()
    running(silent, load={})
    running(bench, load=LOAD)
    for each, wanted in ((silent, [J1]), (bench, [J2])):
        gauges = Gauges(each.shop.fleet)

        for at in (1.0, 2.0):
            gauges.look(wanted, at)

        assert gauges.take() == {}


def test_a_worker_that_is_away_is_not_looked_at() -> None:
    bench = CoordinatorBench()
    worker = running(bench, load=LOAD)
    gauges = Gauges(bench.shop.fleet)
    gauges.look([J1], 1.0)

    bench.disconnect(worker)
    gauges.look([J1], 2.0)

    assert gauges.take() == {}


def test_what_waits_for_long_wants_to_be_taken() -> None:
    bench = CoordinatorBench()
    running(bench, load=LOAD)
    gauges = Gauges(bench.shop.fleet)

    told = [gauges.look([J1], float(at)) for at in range(WAITING_MAX + 1)]

    assert told == [False] * WAITING_MAX + [True]
    assert len(gauges.take()[J1]) == WAITING_MAX


def test_what_nobody_takes_does_not_grow() -> None:
    bench = CoordinatorBench()
    running(bench, load=LOAD)
    gauges = Gauges(bench.shop.fleet)

    for at in range(KEPT_MAX + 10):
        gauges.look([J1], float(at))

    (looks,) = gauges.take().values()
    assert [at for at, _ in looks] == [float(at) for at in range(10, KEPT_MAX + 10)]
