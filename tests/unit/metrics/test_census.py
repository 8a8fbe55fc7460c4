"""How things stand, held against a look at each job."""

from collections import Counter

import pytest
from pydantic import JsonValue
from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.samples import capacity, ended, started, submitted

from lineshaft_coordinator.core import lately
from lineshaft_coordinator.core.gang_parts import parts_of
from lineshaft_coordinator.core.io import CancelAsked, PauseAsked
from lineshaft_coordinator.core.records import JobSubmitted
from lineshaft_coordinator.core.views import job_state
from lineshaft_coordinator.metrics.census import STATES, census, fault_reason, job_counts
from lineshaft_coordinator.metrics.exposition import Labels
from lineshaft_protocol.ids import JobId, WorkerId
from lineshaft_protocol.resources import Gpu
from lineshaft_protocol.worker_messages import Began, Heartbeat, Held


def looked_at(bench: CoordinatorBench) -> dict[str, int]:
    shop = bench.shop
    states = Counter(job_state(shop, job_id, job) for job_id, job in shop.ledger.jobs.items())
    return {state: states[state] for state in STATES}


def values(bench: CoordinatorBench, name: str) -> dict[Labels, float]:
    return dict(next(each.values for each in census(bench.shop, bench.now) if each.name == name))


def test_each_job_is_counted_where_it_is() -> None:
    bench = CoordinatorBench()
    wide = submitted("wide", kind="pipeline", nodes=2)
    bench.given(
        *(submitted(f"j{number}") for number in range(8)),
        submitted("after", after=("j7",)),
        submitted("held", after=("j7",)),
        wide,
        *(JobSubmitted(job_id=p.job_id, client_id="c", job=p) for p in parts_of(wide.job)),
    )
    worker = bench.worker("w1", offers=capacity(slots=3))
    bench.receive(worker, Began(job_id=JobId("j0"), attempt=1))
    bench.handle(CancelAsked(JobId("j1"), "enough"))
    bench.handle(PauseAsked(JobId("j6"), "later"))
    bench.handle(PauseAsked(JobId("held"), "later"))

    counts = job_counts(bench.shop)

    assert counts == looked_at(bench)
    assert {state for state, count in counts.items() if count} == {
        "waiting",
        "queued",
        "assigned",
        "running",
        "paused",
        "cancelling",
    }


def test_a_refused_result_is_counted_and_a_repeated_one_is_not() -> None:
    bench = CoordinatorBench()
    bench.given(submitted("j1"), started("j1", 1, on="w1"))
    w1 = bench.worker("w1", held=(Held(job_id="j1", attempt=1, is_running=True),))
    w2 = bench.worker("w2")

    bench.receive(w2, ended("j1", 1))
    assert bench.shop.stale_count == 1
    bench.receive(w1, ended("j1", 1))
    bench.receive(w1, ended("j1", 1))

    assert bench.shop.stale_count == 1
    assert values(bench, "lineshaft_stale_writes_refused_total") == {(): 1}


def test_what_is_repeated_of_a_job_that_ended_long_ago_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 1)
    bench = CoordinatorBench()
    w1, w2 = bench.worker("w1"), bench.worker("w2")
    client = bench.client()
    for job_id in ("j1", "j2"):
        bench.submit(client, job_id, worker_id="w1")
        bench.receive(w1, ended(job_id, 1))
    assert bench.shop.ledger.recent.get(JobId("j1")) is None

    bench.receive(w1, ended("j1", 1))
    repeated = bench.shop.stale_count
    bench.receive(w2, ended("j1", 1))
    bench.receive(w1, ended("j1", 2))

    assert repeated == 0
    assert bench.shop.stale_count == 2


def test_memory_and_faults_of_gpus_are_told_as_the_worker_told_them() -> None:
    bench = CoordinatorBench()
    gpus = (
        Gpu(uuid="GPU-1", name="A", memory_bytes=100),
        Gpu(uuid="GPU-2", name="A", memory_bytes=0, fault="the driver did not answer"),
    )
    offers = capacity().model_copy(update={"gpus": gpus})
    worker = bench.worker("w1", offers=offers)
    load: dict[str, JsonValue] = {
        "gpu_memory_used_bytes": [40],
        "gpu_usage": [0.5],
        "gpu_temperature_c": [61, None],
        "gpu_power_w": [70.5, None],
    }
    bench.receive(worker, Heartbeat(worker_id=WorkerId("w1"), load=load, sent_at=1.0))

    memory = values(bench, "lineshaft_gpu_memory_bytes")

    first, second = (("worker", "w1"), ("gpu", "GPU-1")), (("worker", "w1"), ("gpu", "GPU-2"))
    assert memory == {
        (*first, ("kind", "total")): 100,
        (*first, ("kind", "used")): 40,
        (*second, ("kind", "total")): 0,
    }
    assert values(bench, "lineshaft_gpu_busy_ratio") == {first: 0.5}
    assert values(bench, "lineshaft_gpu_temperature_celsius") == {first: 61}
    assert values(bench, "lineshaft_gpu_power_watts") == {first: 70.5}
    faults = values(bench, "lineshaft_gpu_quarantined")
    assert faults[(("reason", "driver"),)] == 1
    assert sum(faults.values()) == 1


def test_words_with_numbers_in_them_become_one_of_few_reasons() -> None:
    told = {
        "the driver reported Xid 79; see NVIDIA's list of Xid errors": "xid",
        "3 uncorrected memory errors since it was reset; reset it": "memory_errors",
        "an ended attempt still holds 12 MiB: process 7": "not_given_back",
        "1.5 GiB of it are in use by processes 1, 2": "in_use",
        "NVML error 999: unknown": "driver",
    }

    assert {text: fault_reason(text) for text in told} == told
