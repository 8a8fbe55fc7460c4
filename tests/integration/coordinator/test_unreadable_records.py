"""A record that this version cannot read is told to who asks about its job, and ends nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.integration.store.samples import row

from lineshaft_coordinator.core.records import JobSubmitted, encode
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.secrets import SecretBox
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.store.interface import Batch, EventRow
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.client_messages import (
    Accepted,
    Answer,
    Cancel,
    ClientHello,
    Events,
    Query,
    Refused,
    Retry,
    Submit,
    Watch,
    Welcome,
)
from lineshaft_protocol.ids import Session
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire

UNREADABLE = b'{"type":"JobForgiven","job_id":"odd","by":"ada"}'
UNREADABLE_FILE = b'{"type":"FileKept","job_id":"odd","file":{"shape":"new"}}'
MessageT = TypeVar("MessageT", bound=Wire)


def spec(job_id: str, **more: tuple[str, ...]) -> JobSpec:
    return JobSpec.model_validate(
        {"job_id": job_id, "kind": "function", "payload": Payload(inline=""), **more}
    )


class Peer:
    """A client inside the coordinator's process."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._heard: asyncio.Queue[Wire] = asyncio.Queue()
        self.session: Session = daemon.sessions.open_local(self)
        self.say(ClientHello(client_id="c1", versions=Versions(lineshaft="1")))

    def say(self, message: ClientHello | Cancel | Submit | Watch) -> None:
        self._daemon.sessions.speak(self.session, message)

    async def hear(self, kind: type[MessageT]) -> MessageT:
        async with asyncio.timeout(10):
            while True:
                message = await self._heard.get()
                if isinstance(message, kind):
                    return message

    def on_messages(self, messages: list[Wire]) -> None:
        for message in messages:
            self._heard.put_nowait(message)

    def on_closed(self, reason: str) -> None:
        raise AssertionError(f"the session ended: {reason}")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """One whose journal knows an ended job with records of a later version, and a live one."""
    store = SqliteStore(tmp_path)
    await store.open()
    records = [
        ("odd", 1.0, encode(JobSubmitted(job_id="odd", client_id="c1", job=spec("odd")))),
        ("odd", 2.0, UNREADABLE_FILE),
        ("odd", 3.0, UNREADABLE),
        ("live", 4.0, encode(JobSubmitted(job_id="live", client_id="c1", job=spec("live")))),
    ]
    rows = [row("odd", is_live=False, status="failed", finished_at=3.0), row("live")]
    event = EventRow("live", 1, 1, 5.0, b'{"kind":"smell","body":{}}')
    await store.append(Batch(records=records, rows=rows, events=[event]))
    blobs = BlobStore(tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 20)
    made = Daemon(store, blobs, SecretBox(tmp_path), epoch=2, settings=CoreSettings())
    running = asyncio.create_task(made.run())
    yield made
    assert not running.done(), running.exception()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


@pytest.mark.parametrize("what", ["job", "why", "story", "files"])
async def test_a_question_about_its_job_is_answered_with_what_is_wrong(
    daemon: Daemon, what: str
) -> None:
    peer = Peer(daemon)

    question = Query.model_validate({"request_id": 1, "what": what, "job_id": "odd"})
    daemon.ask(peer.session, question, None)
    answer = await peer.hear(Answer)
    daemon.ask(peer.session, Query(request_id=2, what="job", job_id="live"), None)
    other = await peer.hear(Answer)

    assert answer.error is not None
    assert "a record of job odd cannot be read" in answer.error
    assert "newer version" in answer.error
    assert other.error is None


async def test_its_job_is_not_done_again_and_who_wants_it_hears_why(daemon: Daemon) -> None:
    peer = Peer(daemon)
    await peer.hear(Welcome)

    daemon.retry(peer.session, Retry(request_id=1, job_id="odd"), None)
    answer = await peer.hear(Answer)

    assert answer.error is not None
    assert "a record of job odd cannot be read" in answer.error


@pytest.mark.parametrize(
    "message",
    [
        Submit(job=spec("odd")),
        Submit(job=spec("next", after=("odd",)), is_fresh=True),
        Watch(job_id="odd"),
        Cancel(job_id="odd", reason="enough"),
    ],
    ids=["submitted again", "come after", "watched", "cancelled"],
)
async def test_its_job_is_neither_known_nor_unknown_to_who_speaks_of_it(
    daemon: Daemon, message: Submit | Watch | Cancel
) -> None:
    peer = Peer(daemon)

    peer.say(message)
    refused = await peer.hear(Refused)
    peer.say(Submit(job=spec("fine"), is_fresh=True))
    accepted = await peer.hear(Accepted)

    assert refused.code == "invalid"
    assert "a record of job odd cannot be read" in refused.message
    assert accepted.job_id == "fine"


async def test_in_place_of_an_event_that_cannot_be_read_stands_a_notice(daemon: Daemon) -> None:
    peer = Peer(daemon)

    peer.say(Watch(job_id="live", events=True))
    told = await peer.hear(Events)

    (event,) = told.events
    assert (event.kind, event.attempt, event.seq) == ("notice", 1, 1)
    assert "this event cannot be read" in str(event.body["text"])
