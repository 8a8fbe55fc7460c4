import random

from benchmarks.placement import Bench


def test_an_end_makes_room_for_a_job_that_waited() -> None:
    bench = Bench(4)
    bench.submit(4)
    bench.submit(50)
    assert bench.waiting == 50

    times = bench.decide(30, random.Random(0))

    assert bench.waiting == 20
    assert times == sorted(times)
    assert len(times) == 30
