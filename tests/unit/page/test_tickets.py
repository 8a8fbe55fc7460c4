"""Tickets: what they open, for how long, and how many there are."""

from lineshaft_coordinator.server.tickets import GOOD_FOR_S, TICKETS_MAX, Tickets
from lineshaft_protocol.ids import JobId


def test_a_ticket_opens_its_file_until_its_time_is_over() -> None:
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    ticket = tickets.issue(JobId("j"), "1.3")

    now[0] = GOOD_FOR_S
    assert tickets.find(ticket) == ("j", "1.3")
    now[0] = GOOD_FOR_S + 0.1
    assert tickets.find(ticket) is None
    now[0] = 0.0
    assert tickets.find(ticket) is None, "it is forgotten"


def test_no_two_tickets_are_alike_and_a_guess_opens_nothing() -> None:
    tickets = Tickets(lambda: 0.0)
    made = {tickets.issue(JobId("j"), "1") for _ in range(100)}

    assert len(made) == 100
    assert min(map(len, made)) >= 22, "128 bits"
    assert tickets.find("") is None


def test_the_oldest_ticket_goes_when_there_are_too_many() -> None:
    tickets = Tickets(lambda: 0.0)
    first, second = tickets.issue(JobId("a"), "1"), tickets.issue(JobId("b"), "1")
    for _ in range(TICKETS_MAX - 1):
        tickets.issue(JobId("c"), "1")

    assert tickets.find(first) is None
    assert tickets.find(second) == ("b", "1")
