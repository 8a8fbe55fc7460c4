"""A conversation against a core that answers when the test says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import pytest
from tests.integration.gateway.seed_bench import execute, plan_of, tensor, until
from tests.integration.gateway.test_job_client import Desk, no_transfers

from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.stream_relay import StreamRelay
from lineshaft_coordinator.gateway.conversation import INBOX_MAX, WINDOW, Conversation, Desks
from lineshaft_coordinator.gateway.kept_filters import KeptFilters
from lineshaft_coordinator.gateway.plans import Plans
from lineshaft_coordinator.gateway.python_jobs import PythonJobs
from lineshaft_coordinator.gateway.running_plans import RunningPlans
from lineshaft_coordinator.gateway.uploads import Uploads
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import Cancel, Finished, Submit
from lineshaft_protocol.ids import Session
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.outcomes import Outcome
from lineshaft_runtime.connection import UpgradeRequest

RESULT = {
    "status": "Success", "output": {"delivery": "Inline", "value": tensor(1)}, "duration_ms": 1,
    "states": {},
}  # fmt: skip


@dataclass
class Line:
    """A connection without a socket: it keeps what is sent, and whether it is read from."""

    sent: list[bytes | str] = field(default_factory=list)
    pauses: list[bool] = field(default_factory=list)
    is_open: bool = True
    is_writable: bool = True
    buffered_bytes: int = 0
    peer: str = "127.0.0.1:1"
    request: UpgradeRequest = field(default=UpgradeRequest(path="/ws", peer="127.0.0.1:1"))

    def send_text(self, data: bytes | str) -> None:
        self.sent.append(data)

    def send_binary(self, data: bytes) -> None:
        self.sent.append(data)

    def pause_reading(self) -> None:
        self.pauses.append(True)

    def resume_reading(self) -> None:
        self.pauses.append(False)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.is_open = False

    def abort(self) -> None:
        self.is_open = False


@dataclass
class Bench:
    desk: Desk
    sessions: Sessions
    line: Line
    conversation: Conversation
    finished: int = 0

    def hear(self, *messages: object) -> None:
        for message in messages:
            if isinstance(message, bytes):
                self.conversation.on_binary(self.line, message)  # type: ignore[arg-type]
            else:
                self.conversation.on_text(self.line, json.dumps(message).encode())  # type: ignore[arg-type]

    def submitted(self) -> list[Submit]:
        return [each for each in self.desk.said() if isinstance(each, Submit)]

    def finish(self, count: int) -> None:
        """The next jobs succeed, the last submitted of them first."""
        jobs = self.submitted()[self.finished : self.finished + count]
        self.finished += len(jobs)
        for each in reversed(jobs):
            outcome = Outcome(
                job_id=each.job.job_id, status="succeeded", attempt=1,
                result=Payload.of_bytes(json.dumps(RESULT).encode()),
            )  # fmt: skip
            self.sessions.send(Session(1), [Finished(outcome=outcome)])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    desk = Desk()
    sessions = Sessions(desk, no_transfers, StreamRelay(desk))  # type: ignore[arg-type]
    blobs = BlobStore(tmp_path, blob_bytes_max=2**30, total_bytes_max=2**30)
    running = RunningPlans()
    core = CoordinatorCore(CoreSettings(), ledger=Ledger.replay([]), epoch=1, now=0.0)
    desks = Desks(
        worker_id="w", shop=core.shop, sessions=sessions,
        plans=Plans(blobs, KeptFilters(), Uploads(blobs), running),
        python_jobs=PythonJobs(blobs, running, "w"), running=running,
    )  # fmt: skip
    bench = Bench(desk, sessions, Line(), Conversation(desks, "me"))
    bench.conversation.on_open(bench.line)  # type: ignore[arg-type]
    yield bench
    bench.conversation.on_close(bench.line, 1000, "")  # type: ignore[arg-type]
    await until(lambda: len(asyncio.all_tasks()) == 1)


def begin(plan: object, stream_id: str = "s") -> bytes:
    return msgpack.packb(
        {"type": "StreamBegin", "stream_id": stream_id, "plan_id": "p", "total_chunks": None,
         "plan": plan}
    )  # fmt: skip


def begin_second(plan: object) -> tuple[bytes, bytes]:
    """Begin one that does not ride, since another could: each chunk is a job."""
    return begin(plan_of("Empty", None, {}), "first"), begin(plan)


def chunk(index: int) -> bytes:
    return msgpack.packb(
        {"type": "ChunkData", "stream_id": "s", "chunk_index": index, "value": tensor(1.0)}
    )


async def test_a_stream_far_ahead_of_its_results_is_made_to_wait(bench: Bench) -> None:
    count = 2 * INBOX_MAX
    bench.hear(*begin_second(plan_of("Empty", None, {})), *map(chunk, range(count)))
    await until(lambda: len(bench.submitted()) > WINDOW)

    assert len(bench.submitted()) <= WINDOW + 2
    assert bench.line.pauses == [True]
    while len(bench.line.sent) < count:
        sent = len(bench.line.sent)
        bench.finish(WINDOW)
        await until(lambda: len(bench.line.sent) > sent)  # noqa: B023 - awaited at once

    assert bench.line.pauses == [True, False]
    indexes = [msgpack.unpackb(each)["chunk_index"] for each in bench.line.sent]
    assert indexes == list(range(count))


async def test_nothing_more_is_sent_to_who_does_not_keep_up(bench: Bench) -> None:
    bench.line.is_writable = False
    bench.hear({"type": "Ping"}, {"type": "Ping"})
    await until(lambda: bench.conversation._outbox.qsize() == 1)

    assert bench.line.sent == []
    bench.line.is_writable = True
    bench.conversation.on_writable(bench.line)  # type: ignore[arg-type]

    await until(lambda: len(bench.line.sent) == 2)


async def test_a_second_plan_waits_for_the_answer_to_the_first(bench: Bench) -> None:
    plan = plan_of(execute("d"), tensor(1), {"d": "AAAA"})
    bench.hear({"type": "AssignPlan", "plan": plan}, {"type": "AssignPlan", "plan": plan})
    await until(bench.submitted)

    assert len(bench.submitted()) == 1
    bench.finish(1)
    await until(lambda: len(bench.submitted()) == 2)

    assert len(bench.line.sent) == 1


async def test_a_stream_waits_for_the_answer_to_the_plan_before_it(bench: Bench) -> None:
    """Its plan may name filters that the first one brings."""
    plan = plan_of(execute("d"), tensor(1), {"d": "AAAA"})
    bench.hear({"type": "AssignPlan", "plan": plan})
    bench.hear(begin(plan_of(execute("d"), None, {})), chunk(0))
    await until(bench.submitted)

    assert len(bench.submitted()) == 1
    bench.finish(1)
    await until(lambda: len(bench.submitted()) == 2)

    assert json.loads(bench.submitted()[1].job.payload.inline_bytes())["filters"] != []


async def test_one_job_takes_all_chunks_of_a_stream(bench: Bench) -> None:
    bench.hear(begin(plan_of("Empty", None, {})), *map(chunk, range(5)))
    await until(lambda: bench.conversation._outbox.qsize() == 4)

    assert [each.job.kind for each in bench.submitted()] == ["stream"]


async def test_a_stream_trains_no_filter(bench: Bench) -> None:
    fit = {"Fit": {"y": None, "batch_size": 1}}
    bench.hear(begin(plan_of("Empty", None, {}, mode=fit)), chunk(0))
    (job,) = await until(bench.submitted)

    assert json.loads(job.job.payload.inline_bytes())["mode"] == "Forward"


async def test_a_cancel_acts_before_its_turn_and_is_answered_in_it(bench: Bench) -> None:
    plan = plan_of(execute("d"), tensor(1), {"d": "AAAA"})
    bench.hear({"type": "AssignPlan", "plan": plan})
    (job,) = await until(bench.submitted)
    bench.hear({"type": "CancelPlan", "plan_id": "p"})

    assert bench.desk.said()[-1] == Cancel(job_id=job.job.job_id, reason="cancelled by its client")
    outcome = Outcome(job_id=job.job.job_id, status="cancelled", attempt=0)
    bench.sessions.send(Session(1), [Finished(outcome=outcome)])
    await until(lambda: len(bench.line.sent) == 2)

    assert [json.loads(each)["type"] for each in bench.line.sent] == ["PlanResult", "Ack"]


async def test_a_plans_payload_says_its_dialect_as_its_sender_did(bench: Bench) -> None:
    for more, mode in (
        ({}, "Forward"),
        ({}, {"Fit": {"y": None, "batch_size": None}}),
        ({"protocol_version": 1}, "Forward"),
    ):
        plan = plan_of("Empty", tensor(1), {}, mode=mode, **more)  # type: ignore[arg-type]
        bench.hear({"type": "AssignPlan", "plan": plan})
        jobs = await until(lambda: bench.submitted()[bench.finished :])
        payload = json.loads(jobs[0].job.payload.inline_bytes())

        assert payload["mode"] == mode
        assert payload.get("protocol_version") == more.get("protocol_version")
        bench.finish(1)
