"""When the core wants to be woken."""

from lineshaft_coordinator.core.deadlines import Deadlines


def test_the_earliest_comes_first() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("late", 3.0)
    deadlines.set("early", 1.0)

    assert deadlines.next() == 1.0
    assert list(deadlines.due(3.0)) == ["early", "late"]
    assert deadlines.next() is None


def test_a_deadline_set_again_replaces_the_one_before() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("it", 1.0)
    deadlines.set("it", 5.0)

    assert list(deadlines.due(4.0)) == []
    assert list(deadlines.due(5.0)) == ["it"]


def test_a_deadline_that_was_cleared_does_not_come() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("it", 1.0)
    deadlines.clear("it")

    assert "it" not in deadlines
    assert list(deadlines.due(9.0)) == []


def test_far_deadlines_that_were_cleared_are_forgotten() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for number in range(10_000):
        deadlines.set(number, 1e6 + number)
        deadlines.clear(number)

    assert len(deadlines._heap) <= 65
