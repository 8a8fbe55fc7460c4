"""What waits for one viewer: of what is too much only its oldest numbers go."""

import random

import pytest

from lineshaft_coordinator.feeds.told import Message
from lineshaft_coordinator.feeds.viewer_queue import Drops, QueueLimits, ViewerQueue


def metrics(seq: int, size: int = 10) -> Message:
    return Message(b"m" * size, (1, seq), is_droppable=True)


def status(seq: int, size: int = 10) -> Message:
    return Message(b"s" * size, (1, seq))


def offered(queue: ViewerQueue, *messages: Message) -> None:
    for message in messages:
        queue.offer(message, 0.0)


def taken(queue: ViewerQueue, at_most: int = 1000) -> list[tuple[Message, int]]:
    waiting = [queue.take() for _ in range(min(at_most, len(queue)))]
    return [(each.message, each.skipped) for each in waiting if each is not None]


def test_what_fits_comes_out_as_it_went_in() -> None:
    queue = ViewerQueue(QueueLimits(messages=3))

    offered(queue, metrics(1), status(2), metrics(3))

    assert taken(queue) == [(metrics(1), 0), (status(2), 0), (metrics(3), 0)]


def test_of_too_many_the_oldest_metrics_go_and_the_next_message_says_how_many() -> None:
    queue = ViewerQueue(QueueLimits(messages=3))

    offered(queue, status(1), metrics(2), metrics(3), status(4), metrics(5))

    assert taken(queue) == [(status(1), 0), (status(4), 2), (metrics(5), 0)]


def test_what_must_arrive_is_kept_over_the_limit() -> None:
    queue = ViewerQueue(QueueLimits(messages=2))

    offered(queue, status(1), status(2), status(3), metrics(4), status(5))

    assert taken(queue) == [(status(1), 0), (status(2), 0), (status(3), 0), (status(5), 1)]


def test_the_limit_counts_bytes_as_well() -> None:
    queue = ViewerQueue(QueueLimits(size_bytes=100))

    offered(queue, metrics(1, 60), metrics(2, 30), metrics(3, 30))

    assert taken(queue) == [(metrics(2, 30), 1), (metrics(3, 30), 0)]


def test_who_gets_nothing_that_must_arrive_is_stuck_since_the_first_of_them() -> None:
    queue = ViewerQueue(QueueLimits())
    queue.offer(metrics(1), 1.0)
    assert queue.stuck_since() is None

    queue.offer(status(2), 2.0)
    queue.offer(status(3), 3.0)

    assert queue.stuck_since() == 2.0


def test_who_takes_nothing_that_must_arrive_is_hopeless_at_last() -> None:
    queue = ViewerQueue(QueueLimits(messages=2, hard_factor=2))
    offered(queue, *map(status, range(4)))
    assert not queue.is_hopeless

    offered(queue, status(4))

    assert queue.is_hopeless


@pytest.mark.parametrize("seed", range(300))
def test_whatever_comes_and_goes_only_oldest_metrics_are_missing(seed: int) -> None:
    dice = random.Random(seed)
    limits = QueueLimits(messages=dice.randint(1, 8), size_bytes=dice.randint(40, 400))
    queue = ViewerQueue(limits)
    sent: list[Message] = []
    got: list[tuple[Message, int]] = []
    for seq in range(1, dice.randint(2, 120)):
        make = metrics if dice.random() < 0.7 else status
        sent.append(make(seq, dice.randint(1, 60)))
        waiting_before = [each.message for each in queue._waiting]
        queue.offer(sent[-1], float(seq))
        _check_drop([*waiting_before, sent[-1]], queue, limits)
        got += taken(queue, dice.choice((0, 0, 0, 1, 2, 9)))
    got += taken(queue)

    arrived = [message for message, _ in got]
    assert [each for each in sent if not each.is_droppable] == [
        each for each in arrived if not each.is_droppable
    ]
    assert arrived == [each for each in sent if each in arrived]
    # Every gap is told, where it is, with its true length.
    place = 0
    for message, skipped in got:
        assert sent[place + skipped] is message
        place += skipped + 1
    assert queue.size_bytes == 0
    assert queue.dropped_count == len(sent) - len(arrived)


def _check_drop(before: list[Message], queue: ViewerQueue, limits: QueueLimits) -> None:
    after = [each.message for each in queue._waiting]
    dropped = [each for each in before if each not in after]
    droppable = [each for each in before if each.is_droppable]
    assert dropped == droppable[: len(dropped)]
    is_over = len(after) > limits.messages or queue.size_bytes > limits.size_bytes
    assert not is_over or not any(each.is_droppable for each in after)
    if dropped:
        # Not one more than had to go.
        size = queue.size_bytes + len(dropped[-1].data)
        assert len(after) + 1 > limits.messages or size > limits.size_bytes


def test_what_any_viewer_missed_is_counted_together() -> None:
    drops = Drops()
    queues = [ViewerQueue(QueueLimits(messages=2), drops) for _ in range(2)]

    for queue in queues:
        offered(queue, *(metrics(seq) for seq in range(1, 6)), status(6))

    assert drops.count == sum(queue.dropped_count for queue in queues) == 8
