"""Plans of independent clients run as jobs, and their answers are what each dialect reads."""

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import (
    SeedPeer,
    Town,
    execute,
    plan_of,
    raw_peer,
    seed_peer,
    tensor,
    until,
)
from websockets.exceptions import InvalidStatus

Filters = Mapping[str, str]


@pytest.mark.parametrize(
    ("more", "mode", "is_bare", "is_delivery"),
    [
        ({}, "Forward", True, True),
        ({}, {"Fit": {"y": None, "batch_size": None}}, False, True),
        ({"protocol_version": 1}, "Forward", False, True),
    ],
    ids=["A or B", "B", "C"],
)
async def test_the_output_has_the_form_that_the_plans_dialect_reads(
    peer: SeedPeer, filters: Filters, more: dict[str, object], mode: object, is_bare: bool,
    is_delivery: bool,
) -> None:  # fmt: skip
    plan = plan_of(execute("d"), tensor(1, 2.5), {"d": filters["Doubler"]}, mode=mode, **more)

    result = await peer.run(plan)

    assert list(result) == ["status", "output", "duration_ms", "states"]
    output = result["output"]
    assert isinstance(output, dict)
    assert (output.get("type") == "Tensor") is is_bare
    assert (output.get("delivery") == "Inline") is is_delivery
    assert output["value"] == tensor(2, 5)


async def test_a_plan_runs_with_what_its_filters_require(peer: SeedPeer, filters: Filters) -> None:
    plan = plan_of(execute("n"), tensor(1), {"n": filters["Needy"]})
    needy = {**plan, "filters": [{**plan["filters"][0], "requirements": ["LSSeed==1.5"]}]}
    wrong = {**plan, "filters": [{**plan["filters"][0], "requirements": ["./here"]}]}

    without, refused, result = [await peer.run(each) for each in (plan, wrong, needy)]

    assert "No module named 'lsseed'" in str(without["error"])
    assert "means nothing on the worker" in str(refused)
    assert result["output"]["value"] == tensor(1.5)


async def test_a_fit_gives_states_that_a_later_plan_can_bring(
    peer: SeedPeer, filters: Filters
) -> None:
    fit = plan_of(
        {"Sequence": [execute("s"), execute("d")]},
        tensor(1, 2, 6),
        {"s": filters["Scaler"], "d": filters["Doubler"]},
        mode={"Fit": {"y": tensor(0, 1, 1)}},
    )
    fitted = await peer.run(fit)
    states = {"s": {"type": "Json", "data": {"mean": 3.0, "y": [0.0, 1.0, 1.0]}}}
    assert fitted["states"] == states

    forward = plan_of(execute("s"), tensor(10), {"s": filters["Scaler"]})
    forward["filters"][0]["state"] = states["s"]
    result = await peer.run(forward)

    assert result["output"]["value"] == tensor(7)
    assert result["states"] == {}


@pytest.mark.parametrize("joined", [True, False], ids=["edges", "no edges"])
async def test_a_fork_and_join_is_right_with_edges_and_does_not_hang_without(
    peer: SeedPeer, filters: Filters, joined: bool
) -> None:
    names = {"a": "Doubler", "b": "Doubler", "c": "Same", "l": "Look"}
    edges = {"lineshaft": {"edges": {"a": [], "b": ["a"], "c": ["a"], "l": ["b", "c"]}}}
    plan = plan_of(
        {"Sequence": [execute("a"), {"Parallel": [execute("b"), execute("c")]}, execute("l")]},
        tensor(1, 2),
        {name: filters[each] for name, each in names.items()},
        metadata=edges if joined else {},
    )

    result = await peer.run(plan)

    seen = result["output"]["value"]["data"]["seen"]
    assert seen == ([[4.0, 8.0], [2.0, 4.0]] if joined else [2.0, 4.0])


@pytest.mark.parametrize(
    ("node", "name", "said"),
    [
        ("zz", None, "node `zz` not found in graph"),
        ("boom", "Boom", "node 'boom' failed in forward: ValueError: bad \"quote\" \\ value\n"),
        ("n", "junk", "the filter of node 'n' cannot be unpickled"),
    ],
)
async def test_a_plan_that_fails_is_told_so_and_the_connection_stays(
    peer: SeedPeer, filters: Filters, node: str, name: str | None, said: str
) -> None:
    junk = base64.b64encode(b"junk").decode()
    brought = {} if name is None else {node: {**filters, "junk": junk}[name]}

    result = await peer.run(plan_of(execute(node), tensor(1), brought))

    assert list(result) == ["status", "error", "duration_ms"]
    assert result["status"] == "Failed"
    assert said in str(result["error"])
    assert await peer.is_quiet()


async def test_a_filter_that_raises_shows_where(peer: SeedPeer, filters: Filters) -> None:
    result = await peer.run(plan_of(execute("boom"), tensor(1), {"boom": filters["Boom"]}))

    assert "Python error: Traceback (most recent call last):" in str(result["error"])
    assert "in forward" in str(result["error"])
    assert "lineshaft" not in str(result["error"])


async def test_a_result_of_20_mb_comes_in_frames_that_old_clients_read(
    town: Town, filters: Filters
) -> None:
    plan = plan_of(execute("b"), tensor(1), {"b": filters["Big"]}, protocol_version=1)

    async with raw_peer(town.port, f"/ws?token={town.token}") as peer:
        peer.send_text(json.dumps({"type": "AssignPlan", "plan": plan}))
        frames = [await peer.frame()]
        while not frames[-1].is_final:
            frames.append(await peer.frame())
        peer.send_text('{"type": "Ping"}')
        pong = await peer.frame()

    assert [frame.opcode for frame in frames] == [1, *[0] * (len(frames) - 1)]
    assert len(frames) > 1
    assert max(len(frame.payload) for frame in frames) < 16 * 2**20
    text = b"".join(frame.payload for frame in frames)
    assert len(text) > 18 * 2**20
    assert json.loads(text)["result"]["output"]["value"]["data"]["shape"] == [1_100_000]
    assert pong.payload == b'{"type":"Pong"}'


async def test_a_result_in_both_forms_that_old_clients_cannot_read_is_a_failure(
    peer: SeedPeer, filters: Filters
) -> None:
    """Twice 20 MB is read; what is longer than 64 MiB is not, and is not sent."""
    plan = plan_of(execute("b"), tensor(1), {"b": filters["Big"]})
    thrice = plan_of(
        {"Sequence": [{"Parallel": [execute("b"), execute("c")]}, execute("l")]},
        tensor(1),
        {"b": filters["Big"], "c": filters["Big"], "l": filters["Look"]},
        metadata={"lineshaft": {"edges": {"b": [], "c": [], "l": ["b", "c"]}}},
    )

    assert (await peer.run(plan))["status"] == "Success"
    refused = await peer.run(thrice)

    assert refused["status"] == "Failed"
    assert "clients of this dialect read at most 67108864" in str(refused["error"])


async def test_a_plan_of_five_megabytes_is_taken(peer: SeedPeer, filters: Filters) -> None:
    numbers = [float(i) for i in range(600_000)]

    result = await peer.run(plan_of(execute("b"), tensor(*numbers), {"b": filters["Same"]}))

    assert result["output"]["value"] == tensor(*numbers)


async def test_two_clients_at_once_get_their_own_answers(town: Town, filters: Filters) -> None:
    async def asks(number: int) -> list[object]:
        async with seed_peer(town.url()) as peer:
            results = [
                await peer.run(plan_of(execute("d"), tensor(number, i), {"d": filters["Doubler"]}))
                for i in range(10)
            ]
        return [each["output"]["value"] for each in results]

    ones, twos = await asyncio.gather(asks(1), asks(2))

    assert ones == [tensor(2, 2 * i) for i in range(10)]
    assert twos == [tensor(4, 2 * i) for i in range(10)]


async def test_answers_leave_in_the_order_of_the_questions(
    peer: SeedPeer, filters: Filters
) -> None:
    plan = plan_of(execute("d"), tensor(1), {"d": filters["Doubler"]})
    for message in ({"type": "AssignPlan", "plan": plan}, {"type": "Ping"}, {"type": "Nope"}):
        await peer.send(message)

    heard = [await peer.hear() for _ in range(3)]

    assert [each["type"] for each in heard] == ["PlanResult", "Pong", "Error"]


@pytest.mark.parametrize("elsewhere", [True, False], ids=["another connection", "its own"])
async def test_a_running_plan_is_cancelled_by_its_own_client(
    town: Town, peer: SeedPeer, filters: Filters, tmp_path: Path, elsewhere: bool
) -> None:
    began = tmp_path / "began"
    value = {"type": "Json", "data": {"began": str(began)}}
    plan = plan_of(execute("x"), value, {"x": filters["Slow"]}, plan_id="slow")
    await peer.send({"type": "AssignPlan", "plan": plan})
    await until(began.exists)
    async with seed_peer(town.url(town.other_token)) as stranger, seed_peer(town.url()) as other:
        refused = await stranger.ask({"type": "CancelPlan", "plan_id": "slow"})

        canceller = other if elsewhere else peer
        await canceller.send({"type": "CancelPlan", "plan_id": "slow"})
        ended = await peer.hear()
        ack = await canceller.hear()

    assert refused["status"] == "not_running"
    assert ended["result"]["status"] == "Failed"
    assert ended["result"]["error"] == "cancelled"
    assert (ack["type"], ack["status"]) == ("Ack", "cancelled")


async def test_a_client_that_leaves_takes_its_plan_along(
    town: Town, filters: Filters, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    value = {"type": "Json", "data": {"began": str(began)}}
    plan = plan_of(execute("x"), value, {"x": filters["Slow"]}, plan_id="left alone")
    async with seed_peer(town.url()) as peer:
        await peer.send({"type": "AssignPlan", "plan": plan})
        await until(began.exists)

    def status() -> str | None:
        _, body = town.http("/api/v1/jobs", token=town.local_token)
        job = next(each for each in json.loads(body) if each["name"] == "left alone")
        return job["status"] if job["finished_at"] else None

    assert await until(status) == "cancelled"


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("wrong", 401), ("worker", 403)], ids=str
)
async def test_nobody_comes_in_without_a_token_for_clients(
    town: Town, token: str | None, status: int
) -> None:
    secret = town.worker_token if token == "worker" else token
    url = f"ws://127.0.0.1:{town.port}/ws" + (f"?token={secret}" if secret else "")

    with pytest.raises(InvalidStatus) as caught:
        async with seed_peer(url):
            pass

    assert caught.value.response.status_code == status


async def test_the_local_token_comes_in(town: Town) -> None:
    async with seed_peer(town.url(town.local_token)) as peer:
        assert await peer.is_quiet()


async def test_a_shutdown_stops_nothing(town: Town, peer: SeedPeer) -> None:
    reply = await peer.ask({"type": "Shutdown", "reason": "bye"})

    assert "not allowed" in str(reply["error"])
    assert await peer.is_quiet()
    assert town.http("/health") == (200, b"ok")
