"""What workers count of themselves, as the coordinator tells it."""

from tests.unit.core.coordinator_bench import CoordinatorBench

from lineshaft_coordinator.metrics.census import census
from lineshaft_coordinator.metrics.exposition import Labels
from lineshaft_protocol.ids import Session, WorkerId
from lineshaft_protocol.worker_messages import Heartbeat
from lineshaft_worker.daemon.hits import Hits


def tell(bench: CoordinatorBench, session: Session, hits: Hits, spool_bytes: int = 0) -> None:
    name = bench.shop.fleet.by_session[session].worker_id
    figures = hits.figures(spool_bytes=spool_bytes)
    bench.receive(
        session, Heartbeat(worker_id=WorkerId(name), load={}, sent_at=1.0, figures=figures)
    )


def spooled(bench: CoordinatorBench) -> dict[Labels, float]:
    found = census(bench.shop, bench.now)
    return dict(next(each.values for each in found if each.name == "lineshaft_spool_bytes"))


def counted(bench: CoordinatorBench) -> tuple[int, float]:
    hits = bench.shop.environment_hits
    return sum(hits.counts), hits.sum_s


def test_what_waits_to_be_acknowledged_is_told_of_each_worker_that_is_here() -> None:
    bench = CoordinatorBench()
    first, second = bench.worker("w1"), bench.worker("w2")
    bench.worker("silent")
    tell(bench, first, Hits(), 10)
    tell(bench, first, Hits(), 70)
    tell(bench, second, Hits(), 0)

    assert spooled(bench) == {(("worker", "w1"),): 70, (("worker", "w2"),): 0}

    bench.disconnect(first)
    assert spooled(bench) == {(("worker", "w2"),): 0}


def test_a_hit_counts_once_however_often_it_is_told_and_in_its_bucket() -> None:
    bench = CoordinatorBench()
    session, hits = bench.worker("w1"), Hits()
    tell(bench, session, hits)
    hits.observe(0.005)
    hits.observe(5000.0)
    tell(bench, session, hits)
    tell(bench, session, hits)
    bench.disconnect(session)
    session, _ = bench.register("w1")
    hits.observe(0.25)
    tell(bench, session, hits)

    counts = bench.shop.environment_hits.counts
    assert counted(bench) == (3, 5000.255)
    assert (counts[1], counts[3], counts[-1]) == (1, 1, 1)


def test_what_was_found_in_the_time_of_an_earlier_coordinator_is_not_counted() -> None:
    bench = CoordinatorBench()
    session, hits = bench.worker("w1"), Hits()
    hits.observe(0.5)
    tell(bench, session, hits)
    assert counted(bench) == (0, 0.0)

    hits.observe(0.25)
    tell(bench, session, hits)

    assert counted(bench) == (1, 0.25)


def test_a_daemon_that_was_started_anew_counts_from_nothing() -> None:
    bench = CoordinatorBench()
    session, hits = bench.worker("w1"), Hits()
    tell(bench, session, hits)
    for _ in range(5):
        hits.observe(0.5)
    tell(bench, session, hits)
    bench.disconnect(session)

    session, _ = bench.register("w1", incarnation="i2")
    hits = Hits()
    for _ in range(7):
        hits.observe(0.5)
    tell(bench, session, hits)

    assert counted(bench) == (12, 6.0)


def test_a_worker_with_other_buckets_is_left_out() -> None:
    bench = CoordinatorBench()
    session = bench.worker("w1")
    for counts in ((0, 0), (3, 4)):
        figures = Hits().figures(spool_bytes=0)
        other = figures.model_copy(update={"environment_hits": counts, "environment_hits_s": 9.0})
        bench.receive(
            session, Heartbeat(worker_id=WorkerId("w1"), load={}, sent_at=1.0, figures=other)
        )

    assert counted(bench) == (0, 0.0)
