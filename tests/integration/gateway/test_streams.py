"""Streams of seed clients: chunks in, results out in order, in every notation that they write."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgpack
import pytest
from tests.integration.gateway.seed_bench import (
    Document,
    SeedPeer,
    Town,
    execute,
    plan_of,
    seed_peer,
    tensor,
)

Filters = Mapping[str, str]


def named(**message: object) -> bytes:
    return msgpack.packb(message)


def begin(plan: Document, stream_id: str = "s1") -> bytes:
    return named(
        type="StreamBegin", stream_id=stream_id, plan_id="sp", total_chunks=None, plan=plan
    )


def chunk(index: int, value: object, stream_id: str = "s1") -> bytes:
    return named(type="ChunkData", stream_id=stream_id, chunk_index=index, value=value)


def end(stream_id: str = "s1") -> bytes:
    return named(type="StreamEnd", stream_id=stream_id)


async def heard(peer: SeedPeer) -> Document:
    message = msgpack.unpackb(await peer.hear_binary())
    assert isinstance(message, dict), "we write by name, which every dialect reads"
    return message


async def test_chunks_come_back_in_order_and_the_stream_is_completed(
    peer: SeedPeer, filters: Filters
) -> None:
    await peer.send(begin(plan_of(execute("d"), None, {"d": filters["Doubler"]})))
    for index in range(40):
        await peer.send(chunk(index, tensor(index, 0.5)))
    await peer.send(end())

    results = [await heard(peer) for _ in range(40)]
    complete = await heard(peer)

    assert results == [
        {"type": "ChunkResult", "stream_id": "s1", "chunk_index": i, "value": tensor(2.0 * i, 1.0)}
        for i in range(40)
    ]
    assert list(complete) == ["type", "stream_id", "result"]
    result = complete["result"]
    assert isinstance(result, dict)
    assert (result["status"], result["states"]) == ("Success", {})
    assert result["output"] == {"delivery": "Inline", "value": {"type": "Empty"}, "type": "Empty"}
    assert await peer.is_quiet()


async def test_positional_frames_of_old_clients_are_read(peer: SeedPeer, filters: Filters) -> None:
    plan = ["sp", {"Execute": ["d"]}, None, [["d", filters["Doubler"], None, [], False]],
            "Forward", {}]  # fmt: skip
    await peer.send(msgpack.packb(["StreamBegin", "sB", "sp", None, plan]))
    await peer.send(msgpack.packb(["ChunkData", "sB", 0, ["Tensor", [[1.0, 2.0], [2]]]]))
    await peer.send(msgpack.packb(["ChunkData", "sB", 1, ["Json", [1, 2]]]))
    await peer.send(msgpack.packb(["StreamEnd", "sB"]))

    first, second, complete = [await heard(peer) for _ in range(3)]

    assert (first["chunk_index"], first["value"]) == (0, tensor(2.0, 4.0))
    assert (second["chunk_index"], second["value"]) == (1, tensor(2.0, 4.0))
    assert complete["result"]["status"] == "Success"  # type: ignore[index]


async def test_a_failing_chunk_ends_the_stream_by_its_number(
    peer: SeedPeer, filters: Filters
) -> None:
    plan = plan_of(execute("p"), None, {"p": filters["PickyAboutThree"]})
    await peer.send(begin(plan))
    for index in range(8):
        await peer.send(chunk(index, tensor(index)))
    await peer.send(end())

    results = [await heard(peer) for _ in range(3)]
    failed = await heard(peer)

    assert [each["chunk_index"] for each in results] == [0, 1, 2]
    result = failed["result"]
    assert isinstance(result, dict)
    assert (failed["type"], result["status"]) == ("StreamComplete", "Failed")
    assert str(result["error"]).startswith("chunk 3: node 'p' failed in forward: ValueError")
    assert await peer.is_quiet(), "nothing follows the end of a stream"


async def test_a_number_that_json_cannot_carry_fails_its_chunk(
    peer: SeedPeer, filters: Filters
) -> None:
    await peer.send(begin(plan_of(execute("d"), None, {"d": filters["Doubler"]})))
    await peer.send(chunk(7, tensor(float("nan"))))

    failed = await heard(peer)

    assert "chunk 7: " in str(failed["result"]["error"])  # type: ignore[index]


async def test_a_stream_nobody_began_is_unknown(town: Town, filters: Filters) -> None:
    async with seed_peer(town.url()) as one, seed_peer(town.url()) as other:
        await one.send(begin(plan_of(execute("d"), None, {"d": filters["Doubler"]})))
        assert await one.is_quiet()

        await other.send(chunk(0, tensor(1)))
        failed = await heard(other)
        await other.send(end())

        assert failed["result"] == {
            "status": "Failed", "error": "unknown stream_id", "duration_ms": 0,
        }  # fmt: skip
        assert await other.is_quiet(), "the end of an unknown stream is answered by nothing"


async def test_streams_of_one_connection_do_not_mix(peer: SeedPeer, filters: Filters) -> None:
    for name, stream_id in (("Doubler", "x"), ("Same", "y")):
        await peer.send(begin(plan_of(execute("n"), None, {"n": filters[name]}), stream_id))
    for stream_id in ("x", "y", "x"):
        await peer.send(chunk(0, tensor(1), stream_id))

    results = [await heard(peer) for _ in range(3)]

    assert [(each["stream_id"], each["value"]) for each in results] == [
        ("x", tensor(2.0)),
        ("y", tensor(1.0)),
        ("x", tensor(2.0)),
    ]


async def test_a_long_stream_does_not_fill_the_coordinators_memory(
    peer: SeedPeer, filters: Filters
) -> None:
    """40 MB in flight: more than the inbox takes before it stops reading."""
    rows = [float(i) for i in range(100_000)]
    await peer.send(begin(plan_of(execute("b"), None, {"b": filters["PickyAboutThree"]})))
    for index in range(45):
        await peer.send(chunk(index, tensor(*rows) if index else tensor(1.0)))

    first, failed = await heard(peer), await heard(peer)

    assert first["chunk_index"] == 0
    assert str(failed["result"]["error"]).startswith("chunk 1: ")  # type: ignore[index]
    assert await peer.is_quiet(), "what was not read at once is read later"


async def test_the_end_of_a_stream_has_the_form_that_its_plans_dialect_reads(
    peer: SeedPeer, filters: Filters
) -> None:
    plan = plan_of(
        execute("d"), None, {"d": filters["Doubler"]}, mode={"Fit": {"y": None, "batch_size": 1}}
    )
    await peer.send(begin(plan))
    await peer.send(end())

    complete = await heard(peer)

    assert complete["result"]["output"] == {  # type: ignore[index]
        "delivery": "Inline",
        "value": {"type": "Empty"},
    }


@pytest.mark.parametrize("notation", ["named", "positional"])
async def test_what_is_no_frame_is_told_to_clients_that_know_the_telling(
    peer: SeedPeer, notation: str
) -> None:
    await peer.send(end() if notation == "named" else msgpack.packb(["StreamEnd", "s1"]))
    await peer.send(b"\xc1")

    if notation == "named":
        reply = await peer.hear()
        assert reply["type"] == "Error"
        assert str(reply["message"]).startswith("decoding a stream frame: ")
    assert await peer.is_quiet()


@pytest.mark.parametrize("name", ["worker-0.2.24-exchanges.jsonl", "worker-0.5.1-exchanges.jsonl"])
async def test_captured_stream_frames_are_answered(
    peer: SeedPeer, filters: Filters, golden: Path, name: str
) -> None:
    answers: dict[str, Document] = {}
    for line in map(json.loads, (golden / name).read_text().splitlines()):
        if line.get("frame") != "binary" or line["dir"] != "to_worker":
            continue
        label, data = line["label"], bytes.fromhex(line["hex"])
        if label == "binary_garbage":
            continue
        await peer.send(with_our_filter(data, filters["Doubler"]))
        if label.startswith("stream_begin") or label == "end_unknown":
            continue
        answers[label] = await heard(peer)
    assert await peer.is_quiet()

    assert answers["chunk_named"]["value"] == tensor(2.0, 4.0, 6.0)
    assert answers["chunk_named_json_value"]["value"] == tensor(2.0, 4.0)
    assert answers["chunk_unknown_stream"]["result"]["error"] == "unknown stream_id"  # type: ignore[index]
    assert answers["end_named"]["type"] == answers["end_positional"]["type"] == "StreamComplete"
    # Upstream cannot read the next two, though its own clients write so.
    assert answers["chunk_positional_empty"]["value"] == {"type": "Json", "data": ["typetype"]}
    assert answers["chunk_positional_all"]["value"] == tensor(2.0, 4.0)
    assert answers["chunk_positional_value_named"]["value"] == tensor(2.0, 4.0, 6.0)


def with_our_filter(data: bytes, pickled: str) -> bytes:
    message = msgpack.unpackb(data)
    if isinstance(message, dict) and message["type"] == "StreamBegin":
        message["plan"]["filters"][0]["pickled_filter"] = pickled
    elif isinstance(message, list) and message[0] == "StreamBegin":
        plan = message[4]
        (filters,) = (each for each in plan if isinstance(each, list) and each)
        filters[0][1] = pickled
    return msgpack.packb(message)
