"""What protocol/README.md tells the author of a peer is what a coordinator does."""

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from tests.integration.deploy.shop import Shop
from tests.meta.peer import Message, Peer, ended, hello, job, register, session, submit
from tests.meta.tree import ROOT
from websockets.exceptions import InvalidStatus

Enter = Callable[..., Peer]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("wire"))
    shop.home.mkdir()
    yield shop
    shop.end()


@pytest.fixture(scope="module")
def url(shop: Shop) -> str:
    return shop.start_coordinator()


@pytest.fixture
def enter(shop: Shop, url: str) -> Iterator[Enter]:
    token = (shop.home / "token").read_text().strip()
    with ExitStack() as stack:

        def enter(path: str, *first: Message, **headers: str) -> Peer:
            known = headers.pop("token", token)
            peer = stack.enter_context(session(url, path, known, **headers))
            if first:
                peer.tell(*first)
            return peer

        yield enter


@pytest.fixture
def client(enter: Enter) -> Peer:
    client = enter("/v1/client", hello())
    assert client.hear()["type"] == "Welcome"
    return client


@pytest.fixture
def worker(enter: Enter) -> Iterator[Peer]:
    """Each has a name of its own: the end of one test must not look like a loss to the next."""
    name = f"w-{uuid4().hex}"
    worker = enter("/v1/worker", register(name, tags=[name]))
    assert worker.hear()["type"] == "Registered"
    worker.name = name
    yield worker
    worker.tell({"type": "Leaving"})


def here(worker: Peer) -> dict[str, object]:
    """What makes a job go to this test's worker."""
    return {"tags": [worker.name], "timeouts": {"queue_s": 60}}


def test_the_tables_are_made_from_the_messages() -> None:
    script = ROOT / "docs" / "generate_messages.py"

    run = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False, timeout=60
    )

    assert run.returncode == 0, run.stderr


# --- coming in ---


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/client", {"token": "wrong"}, 401),
        ("/v1/nowhere", {}, 404),
        ("/v1/client", {"Origin": "https://elsewhere.example"}, 403),
    ],
)
def test_who_may_not_come_in_is_told_by_http(
    path: str, headers: dict[str, str], status: int, enter: Enter
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        enter(path, **headers)

    assert refused.value.response.status_code == status


def test_a_worker_is_answered_by_what_it_should_do_with_what_it_holds(enter: Enter) -> None:
    held = [{"job_id": "unknown", "attempt": 3, "is_running": True}]
    worker = enter("/v1/worker", register("holder", held=held))

    registered = worker.hear()

    assert registered["protocol"] == 1
    assert {"epoch", "heartbeat_s", "silence_s", "lease_s"} <= registered.keys()
    assert worker.hear() == {"type": "Settled", "job_id": "unknown", "attempt": 3}
    worker.tell({"type": "Heartbeat", "worker_id": "holder", "load": {}, "sent_at": 12.5})
    assert worker.hear() == {"type": "HeartbeatAck", "sent_at": 12.5}


# --- closing ---


@pytest.mark.parametrize(
    ("path", "frame", "code"),
    [
        ("/v1/client", "not JSON", 1002),
        ("/v1/client", '{"type": "Nonsense"}', 1002),
        ("/v1/client", '{"type": "Ping"}', 1002),
        ("/v1/worker", '{"type": "Leaving"}', 1002),
        ("/v1/client", '{"type": "ClientHello", "client_id": "no name", "versions": {}}', 1002),
        ("/v1/client", b"\x81\xa4type\xa4oops", 1002),
        ("/v1/client", " " * (4 * 1024 * 1024 + 1), 1009),
    ],
)
def test_a_broken_rule_ends_the_session(
    path: str, frame: str | bytes, code: int, enter: Enter
) -> None:
    peer = enter(path)
    peer.socket.send(frame)

    assert peer.closing()[0] == code


def test_text_that_is_not_utf8_ends_the_session(enter: Enter) -> None:
    peer = enter("/v1/client")
    peer.socket.send(b"\xff\xfe", text=True)

    assert peer.closing()[0] == 1007


def test_without_a_common_version_the_reason_names_ours(enter: Enter) -> None:
    versions = {"protocol_min": 7, "protocol_max": 9}
    peer = enter("/v1/client", hello(versions=versions))

    code, reason = peer.closing()

    assert code == 1008
    assert "protocol 1 to 1" in reason


def test_the_newest_connection_of_a_worker_counts(enter: Enter) -> None:
    older = enter("/v1/worker", register("twice"))
    older.until("Registered")
    enter("/v1/worker", register("twice")).until("Registered")

    code, reason = older.closing()

    assert code == 1008
    assert "newer connection" in reason


# --- jobs ---


def test_a_job_lives_as_the_page_says(client: Peer, worker: Peer) -> None:
    client.tell(submit("life", **here(worker)))
    assert client.hear() == {"type": "Accepted", "job_id": "life"}

    assign = worker.hear()
    worker.tell(
        {"type": "Began", "job_id": "life", "attempt": 1},
        ended("life", result={"inline": "aG8="}, run_s=1.5),
    )

    assert (assign["type"], assign["attempt"]) == ("Assign", 1)
    assert assign["job"]["payload"] == {"inline": "aGk="}
    outcome = client.hear()["outcome"]
    assert (outcome["status"], outcome["result"]) == ("succeeded", {"inline": "aG8="})
    assert worker.hear() == {"type": "Settled", "job_id": "life", "attempt": 1}

    again = {**submit("life", **here(worker)), "is_repeat": True}
    client.tell(again, submit("life", name="another", **here(worker)))
    assert [client.hear()["type"] for _ in range(2)] == ["Accepted", "Finished"]
    assert client.hear()["code"] == "duplicate_id"
    worker.tell(ended("life"))
    assert worker.hear()["type"] == "Settled"


def test_a_job_is_cancelled_as_the_page_says(client: Peer, worker: Peer) -> None:
    client.tell(submit("ends", **here(worker)))
    worker.until("Assign")

    client.tell({"type": "Cancel", "job_id": "ends", "reason": "enough"})
    stop = worker.hear()
    worker.tell(ended("ends", "stopped"))

    assert (stop["type"], stop["reason"]) == ("Stop", "enough")
    outcome = client.until("Finished")["outcome"]
    assert (outcome["status"], outcome["reason"]) == ("cancelled", "enough")

    client.tell(submit("waits", tags=["nowhere"], timeouts={"queue_s": 60}))
    client.tell({"type": "Cancel", "job_id": "waits"})
    assert client.until("Finished")["outcome"]["status"] == "cancelled"


def test_events_are_numbered_kept_and_acknowledged(
    enter: Enter, client: Peer, worker: Peer
) -> None:
    client.tell(submit("talks", **here(worker)))
    worker.until("Assign")
    client.tell({"type": "Watch", "job_id": "talks", "events": True})
    assert client.until("StateChanged")["state"] == "assigned"
    event = {"job_id": "talks", "attempt": 1, "at": 1.0, "kind": "metrics"}
    bodies = [{"loss": 0.5}, {"loss": math.nan}, {"loss": math.inf}]
    events = [{**event, "seq": i, "body": body} for i, body in enumerate(bodies, start=1)]

    worker.tell({"type": "JobEvents", "events": events})

    assert [e["seq"] for e in client.until("Events")["events"]] == [1, 2, 3]
    ack = {"type": "EventsAck", "job_id": "talks", "attempt": 1, "seq": 3}
    assert worker.hear() == ack
    worker.tell({"type": "JobEvents", "events": events[1:]})
    assert worker.hear() == ack

    later = enter("/v1/client", hello())
    watch = {"type": "Watch", "job_id": "talks", "events": True, "after_attempt": 1, "after_seq": 1}
    later.tell(watch)
    replayed = later.until("Events")["events"]
    assert [e["seq"] for e in replayed] == [2, 3]
    assert math.isnan(replayed[0]["body"]["loss"])
    worker.tell(ended("talks"))
    assert worker.hear()["type"] == "Settled"


def test_a_plan_has_a_child_done_elsewhere(enter: Enter, client: Peer, worker: Peer) -> None:
    client.tell(submit("plan", kind="plan", **here(worker)))
    worker.until("Assign")
    other = enter("/v1/worker", register("helper", tags=["helper"]))
    other.until("Registered")
    parent = {"job_id": "plan", "attempt": 1}
    child = job("child", tags=["helper"], parent=parent)

    worker.tell({"type": "SpawnChild", "job": child})
    assert other.until("Assign")["job"]["parent"] == parent
    other.tell(ended("child", result={"inline": "aG8="}))

    assert worker.hear()["outcome"]["status"] == "succeeded"
    other.until("Settled")
    other.tell({"type": "Leaving"})
    worker.tell({"type": "SpawnChild", "job": job("orphan", parent={**parent, "attempt": 9})})
    assert worker.hear()["outcome"]["failure"]["cause"] == "dependency"
    worker.tell(ended("plan"))
    assert worker.hear()["type"] == "Settled"


def test_a_worker_that_leaves_hands_back(client: Peer, enter: Enter) -> None:
    worker = enter("/v1/worker", register("leaver", tags=["leaver"]))
    worker.until("Registered")
    client.tell(submit("returned", tags=["leaver"], timeouts={"queue_s": 60}))
    worker.until("Assign")

    worker.tell({"type": "Leaving"}, {"type": "Returned", "job_id": "returned", "attempt": 1})

    assert worker.hear() == {"type": "Settled", "job_id": "returned", "attempt": 1}
    client.tell({"type": "Cancel", "job_id": "returned"})
    assert client.until("Finished")["outcome"]["status"] == "cancelled"


def test_what_nobody_knows_is_refused(client: Peer) -> None:
    client.tell({"type": "Watch", "job_id": "never-seen"})
    assert client.hear()["code"] == "unknown_job"
    client.tell(submit("no-blob", code="0" * 64))
    assert client.hear()["code"] == "blob_missing"


def test_silence_is_broken_by_a_ping(client: Peer) -> None:
    client.tell({"type": "Ping"})

    assert client.hear() == {"type": "Pong"}


# --- blobs ---

CHUNK = 512 * 1024


def test_a_blob_goes_up_and_comes_down(client: Peer) -> None:
    data = bytes(range(256)) * (3_000_000 // 256)
    blob_id = hashlib.sha256(data).hexdigest()
    offer = {"type": "BlobOffer", "blob_id": blob_id, "size_bytes": len(data)}

    client.tell(offer)
    status = client.hear()
    for offset in range(0, len(data), CHUNK):
        client.chunk(blob_id, offset, data[offset : offset + CHUNK])
    done = client.until("BlobStatus")
    client.tell(offer)
    known = client.hear()

    assert (status["received_bytes"], status["is_complete"]) == (0, False)
    assert (done["received_bytes"], done["is_complete"]) == (len(data), True)
    assert known["is_complete"]
    client.tell({"type": "FetchBlob", "blob_id": blob_id, "offset": 1000})
    arrived = 1000
    while arrived < len(data):
        chunk = client.hear()
        assert (chunk["type"], chunk["offset"]) == ("BlobChunk", arrived)
        assert chunk["data"] == data[arrived : arrived + len(chunk["data"])]
        arrived += len(chunk["data"])
        client.tell({"type": "BlobAck", "blob_id": blob_id, "received_bytes": arrived})


def test_an_empty_blob_is_complete_when_it_is_offered(client: Peer) -> None:
    blob_id = hashlib.sha256(b"").hexdigest()

    client.tell({"type": "BlobOffer", "blob_id": blob_id, "size_bytes": 0})
    assert client.hear()["is_complete"]
    client.tell({"type": "FetchBlob", "blob_id": blob_id})
    assert client.hear()["data"] == b""


def test_a_blob_under_a_wrong_name_is_refused(client: Peer) -> None:
    client.tell({"type": "BlobOffer", "blob_id": "1" * 64, "size_bytes": 2})
    client.until("BlobStatus")
    client.chunk("1" * 64, 0, b"hi")

    assert client.hear()["type"] == "BlobRefused"
    client.tell({"type": "FetchBlob", "blob_id": "1" * 64})
    assert client.hear()["type"] == "BlobMissing"
