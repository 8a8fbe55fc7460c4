"""What a worker says of blobs that nobody has: typed failures, and nothing that hangs."""

import time
from collections.abc import Iterator
from typing import TypeVar

import pytest
from tests.e2e.farm import Farm
from tests.e2e.rawclient import RawClient

from lineshaft import Client
from lineshaft.errors import ResultError
from lineshaft_protocol.codec import TO_WORKER
from lineshaft_protocol.jobs import JobSpec, Parent, Payload
from lineshaft_protocol.outcomes import AttemptResult
from lineshaft_protocol.resources import GIB, Capacity
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.worker_messages import (
    Assign,
    ChildFinished,
    Ended,
    Register,
    Registered,
    Settled,
    SpawnChild,
)

NOWHERE = "e" * 64
WAIT_S = 30.0
MessageT = TypeVar("MessageT")


@pytest.fixture
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


def hear(raw: RawClient, kind: type[MessageT]) -> MessageT:
    deadline = time.monotonic() + WAIT_S
    while True:
        frame = raw.socket.recv(timeout=max(0.01, deadline - time.monotonic()))
        for message in TO_WORKER.decode(frame):
            if isinstance(message, kind):
                return message


def register() -> Register:
    capacity = Capacity(slots=1, cpus=1.0, memory_bytes=GIB)
    return Register(
        worker_id="liar",
        capabilities={},
        versions=Versions(),
        capacity=capacity,
        tags=("liar",),
        pythons=("3.11", "3.12", "3.13"),
        incarnation="i1",
    )


@pytest.fixture
def liar(pair: Farm) -> Iterator[RawClient]:
    """A worker that says whatever a test wants said."""
    with RawClient(pair, path="/v1/worker", says_hello=False) as raw:
        raw.say(register())
        hear(raw, Registered)
        yield raw


def test_a_result_that_was_never_stored_fails_its_job(liar: RawClient, client: Client) -> None:
    future = client.submit(abs, -1, tags=["liar"])
    assign = hear(liar, Assign)
    result = Payload(blob=NOWHERE, size_bytes=7)

    liar.say(
        Ended(
            result=AttemptResult(
                job_id=assign.job.job_id, attempt=1, status="succeeded", result=result
            )
        )
    )

    with pytest.raises(ResultError, match="which was never stored here"):
        future.result(WAIT_S)
    hear(liar, Settled)


def test_a_child_whose_data_were_never_stored_fails_at_once(
    liar: RawClient, client: Client
) -> None:
    future = client.submit(abs, -1, tags=["liar"])
    assign = hear(liar, Assign)
    parent = Parent(job_id=assign.job.job_id, attempt=1)
    child = JobSpec(
        job_id=f"{future.id}.1.1", kind="function", payload=Payload(blob=NOWHERE), parent=parent
    )

    liar.say(SpawnChild(job=child))
    answer = hear(liar, ChildFinished)
    future.cancel()

    assert answer.outcome.failure is not None
    assert answer.outcome.failure.cause == "blob_missing"
