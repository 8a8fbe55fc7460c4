"""What captured clients sent is sent again; the answers have the shape that captured workers gave.

The captured filters are bytecode of another interpreter: ours of the same names do the same.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import Document, SeedPeer

EXCHANGES = {"A": "worker-0.2.24-exchanges.jsonl", "C": "worker-0.5.1-exchanges.jsonl"}
SESSIONS = {
    "A": "session-0.2.24-client-and-worker.jsonl",
    "C": "session-0.5.1-client-and-worker.jsonl",
}

ANSWERED_OTHERWISE = {
    "A": {
        "plan_filter_prints",  # fails
        "plan_composite",  # not known
        "plan_stream_variant",  # not known
        "plan_ref_missing",  # runs the plan on nothing at all
        "plan_fit_batched",  # sent in B's words, so we answer in B's
        "plan_ref_uploaded",  # names a path of the captured worker; see test_http.py
        "python_job_env_fail",  # tries to reach a package index
    },
    "C": {
        "plan_cached_missing",  # not known
        "plan_empty",  # fails; the output of doing nothing is the input
        "plan_fit_batched",  # gives the last batch alone
        "plan_branch",  # fails when no arm is named; A and we take the first
        "plan_loop",  # starts each turn with the first input
        "plan_parallel",  # gives the second branch no input
        "plan_stream_variant",
        "plan_ref_missing",  # fails as we do, in other words
        "plan_ref_uploaded",
        "python_job_env_fail",
    },
}
STREAM_LABELS = ("stream_", "chunk_", "end_", "binary_")


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def exchanges(path: Path) -> Iterator[tuple[str, str, list[Document]]]:
    """Requests with all their replies, in order; a label may be asked more than once."""
    label, sent, replies = "", "", []
    for line in lines(path):
        if line.get("frame") not in ("text", "none") or line["label"].startswith(STREAM_LABELS):
            continue
        if line["dir"] == "to_worker":
            if sent:
                yield label, sent, replies
            label, sent, replies = line["label"], line["text"], []
        elif "text" in line:
            replies.append(json.loads(line["text"]))
    yield label, sent, replies


def with_our_filters(text: str, filters: Mapping[str, str]) -> str:
    """The same request, with filters that this interpreter can load."""
    try:
        message = json.loads(text)
    except ValueError:
        return text
    for each in (message.get("plan") if isinstance(message.get("plan"), dict) else {}).get(
        "filters", ()
    ):
        each["pickled_filter"] = filters[each["node_id"]]
    return json.dumps(message)


def assert_shape(ours: object, theirs: object, where: str = "") -> None:
    """Everything a reader of theirs looks for is in ours: the same keys, tags and types."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert theirs.keys() <= ours.keys(), where
        for key in ("type", "status", "delivery", "phase", "success", "step"):
            assert ours.get(key) == theirs.get(key) or key not in theirs, (where, key, ours)
        for key, value in theirs.items():
            assert_shape(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
    else:
        assert type(ours) is type(theirs), (where, ours, theirs)


@pytest.mark.parametrize("dialect", ["A", "C"])
async def test_the_answers_to_captured_requests_have_the_captured_shape(
    peer: SeedPeer, filters: Mapping[str, str], golden: Path, dialect: str
) -> None:
    asked: set[str] = set()

    for label, sent, replies in exchanges(golden / EXCHANGES[dialect]):
        if label in ANSWERED_OTHERWISE[dialect]:
            continue
        await peer.send(with_our_filters(sent, filters))
        ours = [await peer.hear() for _ in replies]
        assert await peer.is_quiet(), f"{label}: more was said than was captured"
        asked.add(label)
        for mine, theirs in zip(ours, replies, strict=True):
            if label.startswith(("get_", "set_", "apply_")):  # C keeps states; we say no.
                assert mine["type"] == "Error"
            elif label == "cancel_plan":
                assert mine["status"] == "not_running"
            else:
                assert_shape(mine, theirs, label)
                assert_same_output(mine, theirs, label)
    assert len(asked) > 25


def assert_same_output(ours: Document, theirs: Document, label: str) -> None:
    """Numbers are equal, too; so are errors that a client may match on."""
    result, captured = ours.get("result"), theirs.get("result")
    if not isinstance(result, dict) or not isinstance(captured, dict):
        return
    if captured["status"] == "Failed":
        assert result["error"] == captured["error"], label
        return
    output = captured["output"]
    assert result["output"]["value"] == output.get("value", output), label
    assert result["states"] == captured["states"], label


@pytest.mark.parametrize("dialect", ["A", "C"])
async def test_real_clients_sessions_are_answered_in_the_captured_shape(
    peer: SeedPeer, filters: Mapping[str, str], golden: Path, dialect: str
) -> None:
    pairs = 0
    sent = ""
    for line in lines(golden / SESSIONS[dialect]):
        if line["kind"] != "ws" or line["opcode"] != "text" or "text" not in line:
            continue
        if line["dir"] == "client_to_worker":
            sent = line["text"]
            continue
        theirs = json.loads(line["text"])
        if "/PEER/" in sent and "data_ref" in sent:
            continue  # It refers to an upload of the captured session.
        ours = await peer.ask(with_our_filters(sent, filters))
        assert ours["plan_id"] == theirs["plan_id"]
        # Nodes that show what they saw show what upstream lost, too.
        shape = {**theirs, "result": {**theirs["result"], "output": {}, "states": {}}}
        shape["result"] = {k: v for k, v in shape["result"].items() if k in theirs["result"]}
        assert_shape(ours, shape, f"{dialect} {theirs['plan_id']}")
        assert ours["result"].keys() == theirs["result"].keys()  # type: ignore[union-attr,attr-defined]
        if theirs["result"]["status"] == "Success":
            output = ours["result"]["output"]  # type: ignore[index]
            assert output["delivery"] == "Inline"
            assert ("type" in output) is (not sent_by_c(sent) and '"batch_size"' not in sent)
        pairs += 1
    assert pairs > 12


def sent_by_c(text: str) -> bool:
    return '"protocol_version":1' in text


@pytest.mark.parametrize(
    "text",
    ["hello", '{"type":"Nope"}', '{"type":"CancelPlan"}', '{"type":"Ping","type":"Ping"}', "[1]"],
)
async def test_what_is_no_message_is_told_so_in_all_dialects_and_the_connection_stays(
    peer: SeedPeer, text: str
) -> None:
    reply = await peer.ask(text)

    assert str(reply["error"]).startswith("invalid message: ")
    assert (reply["type"], reply["message"]) == ("Error", reply["error"])
    assert await peer.is_quiet()


async def test_after_a_plan_of_a_known_dialect_errors_are_in_that_dialect(
    peer: SeedPeer, filters: Mapping[str, str]
) -> None:
    plan = {"plan_id": "p", "plan": "Empty", "metadata": None, "protocol_version": 1}
    await peer.ask({"type": "AssignPlan", "plan": plan})
    of_c = await peer.ask({"type": "Nope"})
    plan = {**plan, "protocol_version": 0, "mode": {"Fit": {"y": None, "batch_size": 2}}}
    await peer.ask({"type": "AssignPlan", "plan": plan})
    of_b = await peer.ask({"type": "Nope"})

    assert list(of_c) == ["type", "message"]
    assert list(of_b) == ["error"]
