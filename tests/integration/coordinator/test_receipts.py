"""What nobody waits for takes the next frame; what a worker says waits behind no client."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from lineshaft_coordinator.core.io import Connected, Disconnected, Event, Received
from lineshaft_coordinator.data.stream_relay import StreamRelay
from lineshaft_coordinator.data.transfers import Transfers
from lineshaft_coordinator.server.sessions import Outlet, Sessions
from lineshaft_protocol.client_messages import Accepted, Finished, Ping, Query, Retry, Submit
from lineshaft_protocol.codec import TO_CLIENT, Codec
from lineshaft_protocol.ids import Session
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Leaving
from lineshaft_runtime.connection import Connection

FINISHED = Finished(outcome=Outcome(job_id="j1", status="succeeded", attempt=1))


class _Peer:
    """A connection that keeps what it is given to send."""

    is_writable = True

    def __init__(self) -> None:
        self.frames: list[list[Wire]] = []
        self.arrived = asyncio.Event()

    def send_text(self, data: bytes) -> None:
        self.frames.append(list(cast("Sequence[Wire]", TO_CLIENT.decode(data))))
        self.arrived.set()

    def send_binary(self, data: object) -> None:
        raise AssertionError(f"nothing here sends {data!r}")

    def close(self, code: int, reason: str) -> None:
        del code, reason
        self.frames.append([])


class _Desk:
    """A daemon without a core."""

    def __init__(self) -> None:
        self.urgent: list[Event] = []
        self.others: list[Event] = []
        self.askers: list[str | None] = []

    def post(self, event: Event, *, is_urgent: bool = False) -> None:
        (self.urgent if is_urgent else self.others).append(event)

    def waiting(self) -> int:
        return 0

    def ask(self, session: Session, query: Query, asker: str | None) -> None:
        del session, query
        self.askers.append(asker)

    def retry(self, session: Session, message: Retry, owner: str | None) -> None:
        del session, message
        self.askers.append(owner)

    def submit(self, session: Session, submit: Submit) -> None:
        del session, submit


class _NoBlobs:
    """A store of blobs from which nothing is moved."""

    def leave(self, transfers: Transfers) -> None:
        del transfers


def _opened() -> tuple[Sessions, Session, _Peer]:
    def no_transfers(outlet: Outlet) -> Transfers:
        return Transfers(cast("Any", None), outlet)  # Nothing here moves a blob.

    relay = StreamRelay(cast("Any", None))  # And no stream begins.
    sessions, session, peer = Sessions(_Desk(), no_transfers, relay), Session(1), _Peer()
    sessions.opened(session, "client", cast("Connection", peer))
    return sessions, session, peer


async def test_a_receipt_leaves_in_the_frame_of_what_follows_it() -> None:
    sessions, session, peer = _opened()

    sessions.send(session, [Accepted(job_id="j1")])
    sessions.send(session, [FINISHED])

    assert peer.frames == [[Accepted(job_id="j1"), FINISHED]]


async def test_a_receipt_that_nothing_follows_leaves_alone() -> None:
    sessions, session, peer = _opened()

    sessions.send(session, [Accepted(job_id="j1")])
    sessions.send(session, [Accepted(job_id="j2")])
    frames_at_once = list(peer.frames)
    async with asyncio.timeout(10):
        await peer.arrived.wait()

    assert frames_at_once == []
    assert peer.frames == [[Accepted(job_id="j1"), Accepted(job_id="j2")]]


async def test_a_receipt_leaves_before_the_goodbye() -> None:
    sessions, session, peer = _opened()

    sessions.send(session, [Accepted(job_id="j1")])
    sessions.close(session, 1008, "silent")

    assert peer.frames == [[Accepted(job_id="j1")], []]


async def test_all_that_a_worker_says_is_urgent_and_nothing_of_a_client() -> None:
    desk = _Desk()
    relay = StreamRelay(cast("Any", None))
    sessions = Sessions(desk, lambda outlet: Transfers(cast("Any", _NoBlobs()), outlet), relay)
    client, worker = Session(1), Session(2)
    sessions.opened(client, "client", cast("Connection", _Peer()))
    sessions.opened(worker, "worker", cast("Connection", _Peer()))

    sessions.text(client, Codec.encode(Ping()))
    sessions.text(worker, Codec.encode(Leaving()))
    sessions.closed(client)
    sessions.closed(worker)

    # Else a session's end could overtake its last words.
    assert desk.others == [
        Connected(client, "client"),
        Received(client, Ping()),
        Disconnected(client),
    ]
    assert desk.urgent == [
        Connected(worker, "worker"),
        Received(worker, Leaving()),
        Disconnected(worker),
    ]


async def test_who_asks_is_known_before_the_core_has_heard_of_the_session() -> None:
    desk = _Desk()
    sessions = Sessions(desk, lambda outlet: cast("Any", None), StreamRelay(cast("Any", None)))
    session = Session(1)
    sessions.opened(session, "client", cast("Connection", _Peer()), "a1b2c3d4")

    # The core is busy with a commit: nothing that was posted was handled yet.
    sessions.text(session, Codec.encode(Query(request_id=1, what="jobs", owner="me")))
    sessions.text(session, Codec.encode(Retry(request_id=2, job_id="j1")))

    assert desk.askers == ["a1b2c3d4", "a1b2c3d4"]
