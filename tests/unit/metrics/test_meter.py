"""What is counted of what the core recorded."""

from tests.unit.core.samples import cancelled, event, finished, left, started, submitted, succeeded

from lineshaft_coordinator.core.io import Append, AppendEvents
from lineshaft_coordinator.core.records import Record
from lineshaft_coordinator.metrics.exposition import Histogram
from lineshaft_coordinator.metrics.meter import Meter
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import ClientId


def told(meter: Meter, *records: Record, now: float = 0.0) -> None:
    meter.on_commit([Append(record) for record in records], now)


def causes(meter: Meter) -> dict[str, int]:
    return {cause: count for cause, count in meter.attempts.counts.items() if count}


def summed(histogram: Histogram) -> tuple[float, int]:
    total, count = histogram.lines()[-2:]
    return float(total.split()[-1]), int(count.split()[-1])


def preparing(at: float, *, is_preparing: bool = True) -> AppendEvents:
    body = {"is_preparing": True} if is_preparing else {"step": 1}
    said = event("j1", 1, 1).model_copy(update={"kind": "progress", "at": at, "body": body})
    assert isinstance(said, JobEvent)
    return AppendEvents((said,), ClientId("c"))


def test_a_job_waits_until_its_first_promise_and_no_longer() -> None:
    meter = Meter()

    told(meter, submitted("j1"), now=10.0)
    told(meter, started("j1", 1, on="w1"), now=12.5)
    told(meter, left("j1", 1, "worker_lost"), started("j1", 2, on="w2"), now=60.0)

    assert summed(meter.waits) == (2.5, 1)


def test_each_attempt_counts_once_by_what_ended_it() -> None:
    meter = Meter()

    told(meter, submitted("j1"), started("j1", 1, on="w1"), left("j1", 1, "worker_lost"))
    told(meter, started("j1", 2, on="w1"), finished(succeeded("j1", 2, on="w1")))

    assert causes(meter) == {"worker_lost": 1, "succeeded": 1}


def test_a_job_that_is_cancelled_in_its_line_ends_no_attempt() -> None:
    meter = Meter()

    told(meter, submitted("j1"), started("j1", 1, on="w1"), left("j1", 1, "returned"))
    told(meter, finished(cancelled("j1", 1)))

    assert causes(meter) == {"returned": 1}
    assert meter.finished.counts["cancelled"] == 1


def test_an_attempt_from_before_a_restart_counts_when_it_ends() -> None:
    meter = Meter(leased=["j1"])

    told(meter, finished(succeeded("j1", 1, on="w1")))

    assert causes(meter) == {"succeeded": 1}
    assert summed(meter.waits) == (0.0, 0)


def test_a_build_lasts_from_the_first_word_of_it_to_the_last() -> None:
    meter = Meter()

    meter.on_commit([preparing(100.0), preparing(103.0), preparing(107.0)], 0.0)
    assert summed(meter.builds) == (0.0, 0)
    meter.on_commit([preparing(500.0, is_preparing=False)], 0.0)

    assert summed(meter.builds) == (7.0, 1)


def test_nothing_is_remembered_of_jobs_that_ended() -> None:
    meter = Meter()

    for number in range(100):
        job_id = f"j{number}"
        told(meter, submitted(job_id), started(job_id, 1, on="w1"))
        meter.on_commit([preparing(1.0)], 0.0)
        told(meter, finished(succeeded(job_id, 1, on="w1")))
    told(meter, finished(succeeded("j1", 1, on="w1")))

    kept = [name for name in ("_leased", "_submitted_at", "_builds") if getattr(meter, name)]
    assert kept == []
