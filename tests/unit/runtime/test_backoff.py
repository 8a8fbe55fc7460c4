import random

from lineshaft_runtime.backoff import Backoff


class Always(random.Random):
    """Draws the same place in every range, from 0 (low end) to 1 (high end)."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.place = place

    def random(self) -> float:
        return self.place


def test_the_upper_end_grows_by_the_factor_up_to_the_longest_wait() -> None:
    backoff = Backoff(0.5, 2.0, 5.0, Always(1.0))

    waits = [backoff.next_s() for _ in range(6)]

    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_wait_may_be_as_short_as_nothing() -> None:
    backoff = Backoff(0.5, 2.0, 5.0, Always(0.0))

    assert [backoff.next_s() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_the_same_seed_gives_the_same_waits() -> None:
    first = Backoff(1, 2, 60, random.Random(7))
    second = Backoff(1, 2, 60, random.Random(7))

    waits = [first.next_s() for _ in range(20)]

    assert waits == [second.next_s() for _ in range(20)]
    assert len(set(waits)) == 20


def test_a_reset_begins_with_short_waits_again() -> None:
    backoff = Backoff(1.0, 3.0, 60.0, Always(1.0))
    for _ in range(4):
        backoff.next_s()

    backoff.reset()

    assert backoff.next_s() == 1.0


def test_trying_for_weeks_does_not_overflow() -> None:
    backoff = Backoff(1.0, 10.0, 30.0, Always(1.0))

    waits = [backoff.next_s() for _ in range(5000)]

    assert waits[-1] == 30.0
