"""What a worker says of its attempts, and says again after a cut."""

from tests.unit.core.samples import event
from tests.unit.core.worker_bench import WorkerBench, said

from lineshaft_protocol.worker_messages import EventsAck, JobEvents
from lineshaft_worker.core.io import AttemptSpoke


def test_events_are_repeated_until_they_are_acknowledged(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")
    worker.handle(AttemptSpoke(key, (event("j1", 1, 1), event("j1", 1, 2))))
    worker.receive(EventsAck(job_id="j1", attempt=1, seq=1))
    worker.cut()

    again = [message for message in said(worker.registered()) if isinstance(message, JobEvents)]

    assert again == [JobEvents(events=(event("j1", 1, 2),))]


def test_much_output_is_repeated_in_messages_that_the_coordinator_takes(
    worker: WorkerBench,
) -> None:
    worker.registered()
    key = worker.runs("j1")
    text = "x" * 100_000
    events = tuple(
        event("j1", 1, seq).model_copy(update={"body": {"stream": "stdout", "text": text}})
        for seq in range(1, 6)
    )
    worker.handle(AttemptSpoke(key, events))
    worker.cut()

    again = [message for message in said(worker.registered()) if isinstance(message, JobEvents)]

    assert [len(message.events) for message in again] == [2, 2, 1]
    assert sum((message.events for message in again), ()) == events


def test_dropped_events_leave_a_notice(worker: WorkerBench) -> None:
    worker.core.settings = worker.core.settings.model_copy(update={"unacked_max": 2})
    worker.core.flow._outbox._settings = worker.core.settings
    worker.registered()
    key = worker.runs("j1")

    for seq in range(1, 6):
        worker.handle(AttemptSpoke(key, (event("j1", 1, seq),)))

    kept = list(worker.core.bench.attempts[key].unacked.values())
    assert [(e.seq, e.kind) for e in kept] == [(4, "notice"), (5, "log")]


def test_many_metrics_are_repeated_in_messages_that_the_coordinator_takes(
    worker: WorkerBench,
) -> None:
    worker.registered()
    key = worker.runs("j1")
    metrics = {f"loss of layer {number}": 0.1234567890123456 for number in range(2000)}
    body = {"values": metrics}
    events = tuple(
        event("j1", 1, seq).model_copy(update={"kind": "metrics", "body": body})
        for seq in range(1, 101)
    )
    worker.handle(AttemptSpoke(key, events))
    worker.cut()

    again = [message for message in said(worker.registered()) if isinstance(message, JobEvents)]

    assert max(len(message.model_dump_json()) for message in again) < 2**20
    assert sum((message.events for message in again), ()) == events
