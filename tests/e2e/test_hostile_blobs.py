"""A client that breaks the rules of blobs loses its blob or its session, and hurts nobody."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
import pytest
from tests.e2e.farm import Farm, until
from tests.e2e.rawclient import RawClient

from lineshaft import Client
from lineshaft_coordinator.data.transfers import TRANSFERS_MAX
from lineshaft_protocol.blob_messages import BlobAck, BlobOffer, BlobRefused, BlobStatus, FetchBlob
from lineshaft_protocol.client_messages import Ping, Pong
from lineshaft_protocol.frames import CHUNK_BYTES_MAX, WINDOW_BYTES, encode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.wire import Wire

NUMBERS = itertools.count(1)
MIB = 1024 * 1024
PART = MIB // 2
GIVEN_BACK_S = 10.0
UPLOADS_MAX = 1024
"""Of a coordinator, on all connections."""
UPLOADS = TRANSFERS_MAX // 2
"""That we offer on one."""


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


@dataclass(frozen=True, slots=True)
class Blob:
    """1 MiB that no test had before."""

    data: bytes
    id: BlobId

    @staticmethod
    def new() -> "Blob":
        data = hashlib.shake_128(b"%d" % next(NUMBERS)).digest(MIB)
        return Blob(data, BlobId(hashlib.sha256(data).hexdigest()))


class RawUpload(RawClient):
    def offer(self, blob: Blob, size_bytes: int = MIB) -> BlobStatus | BlobRefused:
        self.say(BlobOffer(blob_id=blob.id, size_bytes=size_bytes))
        answer = self.hear(BlobStatus, BlobRefused)
        assert isinstance(answer, BlobStatus | BlobRefused)
        return answer

    def chunk(self, blob: Blob, offset: int, data: bytes) -> None:
        self.socket.send(b"".join(encode_chunk(blob.id, offset, data)))

    def standing(self) -> int:
        """Hear how much of a blob is there."""
        status = self.hear(BlobStatus, BlobRefused)
        assert isinstance(status, BlobStatus), status
        assert status.is_complete == (status.received_bytes == MIB)
        return status.received_bytes

    def send(self, blob: Blob) -> BlobStatus | BlobRefused:
        """Send all of it as it should be."""
        if isinstance(refused := self.offer(blob), BlobRefused):
            return refused
        self.chunk(blob, 0, blob.data)
        answer = self.hear(BlobStatus, BlobRefused)
        assert isinstance(answer, BlobStatus | BlobRefused)
        return answer


def partials(farm: Farm) -> set[str]:
    return {path.name for path in (farm.folder / "data" / "blobs" / "partial").iterdir()}


def _other_bytes(raw: RawUpload, blob: Blob) -> None:
    raw.offer(blob)
    raw.chunk(blob, 0, bytes(MIB))


def _longer_than_said(raw: RawUpload, blob: Blob) -> None:
    raw.offer(blob, MIB - 1)
    raw.chunk(blob, 0, blob.data)


def _shorter_than_hashed(raw: RawUpload, blob: Blob) -> None:
    raw.offer(blob, MIB - 1)
    raw.chunk(blob, 0, blob.data[:-1])


def _a_piece_is_missing(raw: RawUpload, blob: Blob) -> None:
    raw.offer(blob)
    raw.chunk(blob, PART, blob.data[PART:])


def _two_sizes(raw: RawUpload, blob: Blob) -> None:
    raw.offer(blob)
    raw.say(BlobOffer(blob_id=blob.id, size_bytes=MIB - 1))


def _another_size_than_there_is(raw: RawUpload, blob: Blob) -> None:
    raw.send(blob)
    raw.say(BlobOffer(blob_id=blob.id, size_bytes=MIB + 1))


def _larger_than_may_be(raw: RawUpload, blob: Blob) -> None:
    raw.say(BlobOffer(blob_id=blob.id, size_bytes=2**53 - 1))


def _a_file_without_proof(raw: RawUpload, blob: Blob) -> None:
    raw.say(BlobOffer(blob_id=blob.id, size_bytes=MIB, file="0" * 32))


REFUSED: dict[str, tuple[Callable[[RawUpload, Blob], None], str]] = {
    "bytes with another hash": (_other_bytes, "hash to"),
    "more bytes than were said": (_longer_than_said, f"more than its {MIB - 1} bytes"),
    "a size that leaves the last byte out": (_shorter_than_hashed, "hash to"),
    "a piece that is missing": (_a_piece_is_missing, f"offset {PART} where 0 was expected"),
    "two sizes for one blob": (_two_sizes, f"begun with {MIB} bytes"),
    "another size than what is there": (_another_size_than_there_is, f"it has {MIB} bytes"),
    "a size that no blob may have": (_larger_than_may_be, "at most"),
    "a file of another machine": (_a_file_without_proof, "without one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_blob_that_is_not_what_was_said_is_refused_and_its_room_given_back(
    pair: Farm, client: Client, name: str
) -> None:
    deed, told = REFUSED[name]
    blob, other = Blob.new(), Blob.new()
    with RawUpload(pair) as raw:
        deed(raw, blob)

        refused = raw.hear(BlobRefused)

        assert isinstance(refused, BlobRefused)
        assert refused.blob_id == blob.id
        assert told in refused.message
        # The session goes on, and so does everybody else.
        assert raw.send(other) == BlobStatus(blob_id=other.id, received_bytes=MIB, is_complete=True)
        assert client.submit(len, other.data).result(20) == MIB
    # What can be gone on with stays for who comes back.
    if name != "a piece that is missing":
        until(lambda: blob.id not in partials(pair), what="nothing is left", within_s=GIVEN_BACK_S)


def _twice(raw: RawUpload, blob: Blob) -> None:
    raw.chunk(blob, 0, blob.data[:PART])
    raw.chunk(blob, 0, blob.data[:PART])


def _after_the_end(raw: RawUpload, blob: Blob) -> None:
    raw.chunk(blob, 0, blob.data)
    raw.chunk(blob, PART, blob.data[PART:])


def _of_nothing_that_was_offered(raw: RawUpload, blob: Blob) -> None:
    raw.chunk(Blob.new(), 0, blob.data)


def _acknowledged_beyond_the_end(raw: RawUpload, blob: Blob) -> None:
    raw.say(BlobAck(blob_id=blob.id, received_bytes=2**53 - 1))


HARMLESS = {
    "a piece that came twice": _twice,
    "a piece after the end": _after_the_end,
    "a piece of nothing that was offered": _of_nothing_that_was_offered,
    "an acknowledgement of what was not sent": _acknowledged_beyond_the_end,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_piece_that_is_superfluous_changes_nothing(pair: Farm, client: Client, name: str) -> None:
    blob = Blob.new()
    with RawUpload(pair) as raw:
        raw.offer(blob)

        HARMLESS[name](raw, blob)

        raw.say(Ping())
        raw.hear(Pong)
        raw.say(BlobOffer(blob_id=blob.id, size_bytes=MIB))
        # As every client does: it goes on where the coordinator says that it stands.
        while (standing := raw.standing()) < MIB:
            raw.chunk(blob, standing, blob.data[standing:])
    assert blob.id not in partials(pair)
    assert client.submit(pow, 2, 2).result(20) == 4


ID = "a" * 64
HEAD = b"\x84\xa4type\xa9BlobChunk\xa7blob_id\xd9\x40" + ID.encode()
OVER = {
    "a piece that is too long": b"".join(encode_chunk(BlobId(ID), 0, bytes(CHUNK_BYTES_MAX + 1))),
    "a piece that says it is longer": HEAD + b"\xa6offset\x00\xa4data\xc6\xff\xff\xff\xff" + b"x",
    "a map of four thousand million fields": b"\xdf\xff\xff\xff\xff\xa4type",
    "a list of lists of lists": b"\x84\xa4type" + b"\x91" * 100_000,
    "an extension type nobody knows": HEAD + b"\xa6offset\xd4\x2a\x00\xa4data\xc4\x01x",
    "a place before the beginning": HEAD + b"\xa6offset\xff\xa4data\xc4\x01x",
    "a name that is no hash": HEAD.replace(b"a" * 64, b"/" * 64)
    + b"\xa6offset\x00\xa4data\xc4\x01x",
    "text where bytes belong": HEAD + b"\xa6offset\x00\xa4data\xa1x",
}


@pytest.mark.parametrize("name", OVER)
def test_what_is_no_piece_of_a_blob_ends_the_session(pair: Farm, client: Client, name: str) -> None:
    with RawUpload(pair) as raw:
        raw.socket.send(OVER[name])

        code, reason = raw.end()

    assert code == 1002
    assert "frame" in reason
    assert client.submit(pow, 2, 2).result(20) == 4


@pytest.mark.parametrize(
    "message",
    [
        BlobOffer.model_construct(blob_id="../../etc/passwd", size_bytes=1),
        BlobOffer.model_construct(blob_id=ID, size_bytes=-1),
        BlobOffer.model_construct(blob_id=ID, size_bytes=1, file="../journal"),
        FetchBlob.model_construct(blob_id=ID, offset=-1),
    ],
)
def test_what_names_no_blob_ends_the_session(pair: Farm, client: Client, message: Wire) -> None:
    with RawUpload(pair) as raw:
        raw.say(message)

        code, reason = raw.end()

    assert code == 1002
    assert reason
    assert client.submit(pow, 2, 2).result(20) == 4


def test_who_offers_much_and_goes_has_taken_no_room(pair: Farm, client: Client) -> None:
    with ExitStack() as stack:
        for number in range(UPLOADS_MAX):
            if number % UPLOADS == 0:
                raw = stack.enter_context(RawUpload(pair))
            assert isinstance(raw.offer(Blob.new(), 1 << 30), BlobStatus)

        refused = stack.enter_context(RawUpload(pair)).offer(Blob.new())
        assert isinstance(refused, BlobRefused)
        assert f"{UPLOADS_MAX} uploads are under way" in refused.message

    with RawUpload(pair) as other:
        until(
            lambda: isinstance(other.send(Blob.new()), BlobStatus),
            what="there is room again",
            within_s=GIVEN_BACK_S,
        )
    assert client.submit(len, Blob.new().data).result(20) == MIB


def test_who_floods_an_upload_gets_no_memory_for_it(pair: Farm, client: Client) -> None:
    assert pair.coordinator is not None
    coordinator = psutil.Process(pair.coordinator.pid)
    before = coordinator.memory_info().rss
    most = before
    with RawUpload(pair) as raw:
        blob = Blob.new()
        raw.offer(blob, 64 * WINDOW_BYTES)
        # The first piece is not where it should be, so none of them is ever written.
        for index in range(1, 16 * WINDOW_BYTES // MIB):
            try:
                raw.chunk(blob, index * MIB, blob.data)
            except Exception:  # noqa: BLE001 - the session may have been closed
                break
            most = max(most, coordinator.memory_info().rss)

        assert client.submit(pow, 2, 2).result(30) == 4

    until(
        lambda: coordinator.memory_info().rss - before < 32 * MIB,
        what="memory is given back",
        within_s=GIVEN_BACK_S,
    )
    assert most - before < 128 * MIB


def test_who_asks_for_blobs_and_reads_nothing_holds_no_memory(pair: Farm, client: Client) -> None:
    assert pair.coordinator is not None
    coordinator = psutil.Process(pair.coordinator.pid)
    blobs = [Blob.new() for _ in range(48)]
    with RawUpload(pair) as raw:
        for blob in blobs:
            raw.send(blob)
    before = coordinator.memory_info().rss
    with RawUpload(pair) as raw:
        raw.say(*(FetchBlob(blob_id=blob.id) for blob in blobs * 4))

        assert client.submit(pow, 2, 2).result(30) == 4

        assert coordinator.memory_info().rss - before < 64 * MIB


def test_a_blob_on_its_way_survives_what_others_do_to_it(pair: Farm) -> None:
    blob = Blob.new()
    with RawUpload(pair) as honest, RawUpload(pair) as other:
        honest.offer(blob)
        honest.chunk(blob, 0, blob.data[:PART])
        other.offer(blob)
        other.chunk(blob, 7, b"not there")
        assert isinstance(other.hear(BlobRefused, BlobStatus), BlobRefused | BlobStatus)

        honest.chunk(blob, PART, blob.data[PART:])

        assert honest.standing() == MIB
