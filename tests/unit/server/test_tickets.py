"""Addresses that open one file for a while."""

from lineshaft_coordinator.server.tickets import GOOD_FOR_S, TICKETS_MAX, Tickets
from lineshaft_protocol.ids import JobId


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_ticket_opens_its_own_file_for_its_time_and_not_longer() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    first, second = tickets.issue(JobId("j"), "1.1"), tickets.issue(JobId("k"), "1.2")

    assert first != second
    assert (tickets.find(first), tickets.find(second)) == (("j", "1.1"), ("k", "1.2"))
    clock.now_s += GOOD_FOR_S - 0.1
    assert tickets.find(first) == ("j", "1.1")  # Again and again, for a download in parts.
    clock.now_s += 0.2
    assert tickets.find(first) is None
    assert tickets.find("guessed") is None


def test_of_too_many_tickets_the_oldest_goes() -> None:
    tickets = Tickets(Clock())

    issued = [tickets.issue(JobId("j"), str(number)) for number in range(TICKETS_MAX + 1)]

    assert tickets.find(issued[0]) is None
    assert tickets.find(issued[1]) == ("j", "1")
    assert tickets.find(issued[-1]) == ("j", str(TICKETS_MAX))
