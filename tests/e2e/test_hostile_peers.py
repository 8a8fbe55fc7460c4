"""Whoever breaks the protocol loses its session, with a code and a reason; nobody else is hurt."""

from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from tests.e2e.farm import Farm
from tests.e2e.rawclient import RawClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lineshaft import Client
from lineshaft_protocol.client_messages import Ping, Query, Submit
from lineshaft_protocol.jobs import JobSpec, Payload

SUBMIT = '{"type":"Submit","job":{"job_id":"a","kind":"plan","payload":%s}}'


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ("this is no JSON", "invalid message"),
        ("[" * 100_000, "invalid message"),
        ('{"type":"Nope"}', "invalid message"),
        ('{"type":"Cancel"}', "job_id"),
        ('{"type":"Cancel","job_id":7}', "job_id"),
        ('{"type":"Cancel","job_id":"../../etc"}', "job_id"),
        ('[{"type":"Ping"},{"type":"Pong"}]', "invalid message"),
        ('"Ping"', "invalid message"),
        ('{"type":"Watch","job_id":"a","after_seq":-1}', "after_seq"),
        ('{"type":"Watch","job_id":"a","after_seq":1e400}', "after_seq"),
        ('{"type":"Watch","job_id":"a","after_seq":' + "9" * 30 + "}", "after_seq"),
        (
            '{"type":"Query","request_id":1,"what":"events","after_seq":' + "9" * 30 + "}",
            "after_seq",
        ),
        (
            '{"type":"Submit","job":{"job_id":"a","kind":"plan","payload":{"inline":"!!!"}}}',
            "inline",
        ),
        ('{"type":"Submit","job":{"job_id":"a","kind":"plan","payload":{}}}', "payload"),
    ],
)
def test_a_bad_message_ends_the_session_with_a_reason(
    pair: Farm, client: Client, frame: str, told: str
) -> None:
    with RawClient(pair) as raw:
        raw.socket.send(frame, text=True)

        code, reason = raw.end()

    assert code == 1002
    assert told in reason
    assert client.submit(pow, 2, 2).result(20) == 4


def test_a_worker_cannot_number_its_events_out_of_the_store(pair: Farm, client: Client) -> None:
    with RawClient(pair, path="/v1/worker", says_hello=False) as raw:
        event = '{"job_id":"a","attempt":1,"seq":' + str(2**63) + ',"at":0,"kind":"log","body":{}}'
        raw.socket.send('{"type":"JobEvents","events":[' + event + "]}", text=True)

        assert raw.end()[0] == 1002
    assert client.submit(pow, 2, 2).result(20) == 4


def test_a_function_without_code_fails_and_harms_no_worker(pair: Farm, client: Client) -> None:
    with RawClient(pair) as raw:
        spec = JobSpec(job_id="no-code", kind="function", payload=Payload.of_bytes(b"x"))
        raw.say(Submit(job=spec))

        outcome = raw.outcome().outcome

    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert "code" in outcome.failure.message
    assert client.submit(pow, 2, 2).result(20) == 4


def test_a_number_that_is_too_large_is_a_bad_request(pair: Farm) -> None:
    token = (pair.home / "token").read_text().strip()
    http = HTTPConnection("127.0.0.1", pair.port, timeout=20)
    path = "/api/v1/jobs/a/events?after_seq=" + "9" * 30
    http.request("GET", path, headers={"Authorization": f"Bearer {token}"})

    assert http.getresponse().status == 400
    http.close()


def test_an_over_long_frame_ends_the_session(pair: Farm, client: Client) -> None:
    with RawClient(pair) as raw:
        raw.socket.send("x" * (8 << 20), text=True)

        code, _ = raw.end()

    assert code == 1009
    assert client.submit(pow, 2, 2).result(20) == 4


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x81\xa4type\xa4Nope", b"\xdd\xff\xff\xff\xff"])
def test_a_bad_binary_frame_ends_the_session(pair: Farm, frame: bytes) -> None:
    with RawClient(pair) as raw:
        raw.socket.send(frame)

        code, reason = raw.end()

    assert code == 1002
    assert "frame" in reason


def test_a_client_must_say_hello_first(pair: Farm) -> None:
    with RawClient(pair, says_hello=False) as raw:
        raw.say(Ping())

        code, reason = raw.end()

    assert code == 1002
    assert "ClientHello" in reason


def test_a_worker_must_register_first(pair: Farm) -> None:
    with RawClient(pair, path="/v1/worker", says_hello=False) as raw:
        raw.socket.send('{"type":"Began","job_id":"a","attempt":1}', text=True)

        code, reason = raw.end()

    assert code == 1002
    assert "Register" in reason


def test_a_question_before_hello_is_not_answered(pair: Farm) -> None:
    with RawClient(pair, says_hello=False) as raw:
        raw.say(Query(request_id=1, what="jobs"))

        assert raw.end()[0] == 1002


def test_a_job_whose_payload_was_never_uploaded_is_refused(pair: Farm) -> None:
    with RawClient(pair) as raw:
        spec = JobSpec(job_id="no-blob", kind="function", payload=Payload(blob="ab" * 32))
        raw.say(Submit(job=spec))

        refused = raw.submit(spec)

    assert refused.code == "blob_missing"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "https://evil.example"}, 403),
    ],
    ids=["no token", "wrong token", "a page's origin"],
)
def test_strangers_do_not_get_in(pair: Farm, headers: dict[str, str], status: int) -> None:
    token = (pair.home / "token").read_text().strip()
    sent = dict(headers)
    if status == 403:
        sent["Authorization"] = f"Bearer {token}"

    with (
        pytest.raises(InvalidStatus) as refused,
        connect(pair.url + "/v1/client", additional_headers=sent),
    ):
        pass

    assert refused.value.response.status_code == status


def test_a_page_that_reaches_us_under_another_name_gets_nothing(pair: Farm) -> None:
    token = (pair.home / "token").read_text().strip()
    http = HTTPConnection("127.0.0.1", pair.port, timeout=20)
    headers = {"Host": "evil.example", "Authorization": f"Bearer {token}"}
    http.request("GET", "/api/v1/info", headers=headers)

    assert http.getresponse().status == 403
    http.close()
