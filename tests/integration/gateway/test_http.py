"""Upstream's HTTP endpoints: who may ask, what uploads are, and what no reference reaches."""

import json
import os
import urllib.parse
from collections.abc import Mapping

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


def upload(town: Town, body: bytes, token: str | None = None) -> Document:
    status, answer = town.http("/upload", token=token or town.token, body=body)
    assert status == 200, answer
    ref = json.loads(answer)
    assert list(ref) == ["type", "path"]
    assert ref["type"] == "Local"
    return ref


def test_a_worker_is_described_as_upstream_describes_itself(town: Town) -> None:
    status, body = town.http("/info")

    info = json.loads(body)
    assert status == 200
    assert info.keys() == {"type", "worker_id", "capabilities"}
    assert info["type"] == "Register"
    assert info["capabilities"].keys() == {
        "cpu_cores", "ram_bytes", "gpus", "python_envs", "tags",
    }  # fmt: skip
    assert info["capabilities"]["cpu_cores"] == len(os.sched_getaffinity(0))
    assert "gpu" in info["capabilities"]["tags"]


async def test_the_same_is_said_on_the_connection(town: Town, peer: SeedPeer) -> None:
    register = await peer.ask({"type": "StatusRequest"})

    assert register == json.loads(town.http("/info")[1])


def test_health_is_said_to_everybody(town: Town) -> None:
    assert town.http("/health") == (200, b"ok")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(tensor(1, 2, 3)).encode(),
        msgpack.packb(tensor(1.0, 2.0, 3.0)),
        msgpack.packb(["Tensor", [[1.0, 2.0, 3.0], [3]]]),
        msgpack.packb(["Tensor", {"values": [1.0, 2.0, 3.0], "shape": [3]}]),
    ],
    ids=["JSON", "named", "positional", "mixed"],
)
async def test_an_upload_can_be_the_input_of_a_plan(
    town: Town, peer: SeedPeer, filters: Mapping[str, str], body: bytes
) -> None:
    ref = upload(town, body)
    plan = plan_of(execute("d"), None, {"d": filters["Doubler"]})
    plan["input"] = {"source": "Reference", "data_ref": ref}

    by_path = await peer.run(plan)
    key = list(bytes.fromhex(str(ref["path"]).rpartition(":")[2]))
    plan["input"] = {"source": "Reference", "data_ref": {"type": "Cached", "cache_key": key}}
    by_key = await peer.run(plan)

    assert by_path["output"]["value"] == by_key["output"]["value"] == tensor(2, 4, 6)  # type: ignore[index]
    status, answer = town.http("/download", token=town.token, ref=json.dumps(ref))
    assert (status, json.loads(answer)) == (200, tensor(1, 2, 3))


async def test_an_upload_belongs_to_its_token(town: Town, filters: Mapping[str, str]) -> None:
    ref = upload(town, json.dumps(tensor(1)).encode())
    plan = plan_of(execute("d"), None, {"d": filters["Doubler"]})
    plan["input"] = {"source": "Reference", "data_ref": ref}

    async with seed_peer(town.url(town.other_token)) as stranger:
        refused = await stranger.run(plan)

    assert str(refused["error"]).startswith("transport: cannot resolve the input reference Local")
    assert town.http("/download", token=town.other_token, ref=json.dumps(ref))[0] == 404


@pytest.mark.parametrize(
    "ref",
    [
        {"type": "Local", "path": "/etc/hostname"},
        {"type": "Local", "path": "lineshaft-upload:../../token"},
        {"type": "Local", "path": "lineshaft-upload:" + "0" * 64},
        {"type": "Cached", "cache_key": [1] * 32},
        {"type": "S3", "bucket": "b", "key": "k"},
        {"type": "Stream", "endpoint": "e", "format": "csv"},
    ],
    ids=lambda ref: str(ref["type"]),
)
async def test_no_reference_reaches_anything_else(
    town: Town, peer: SeedPeer, filters: Mapping[str, str], ref: Document
) -> None:
    plan = plan_of(execute("d"), None, {"d": filters["Doubler"]})
    plan["input"] = {"source": "Reference", "data_ref": ref}

    result = await peer.run(plan)

    assert result["status"] == "Failed"
    assert "cannot resolve the input reference" in str(result["error"])
    assert town.http("/download", token=town.token, ref=json.dumps(ref))[0] == 404


async def test_a_reference_that_holds_its_value_is_that_value(town: Town, peer: SeedPeer) -> None:
    ref = {"type": "Inline", "value": tensor(5)}
    plan = plan_of("Empty", None, {})
    plan["input"] = {"source": "Reference", "data_ref": ref}

    result = await peer.run(plan)

    assert result["output"]["value"] == tensor(5)  # type: ignore[index]
    status, answer = town.http("/download", token=town.token, ref=json.dumps(ref))
    assert (status, json.loads(answer)) == (200, tensor(5))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\xc1\xc1", 400),
        (b"{}", 400),
        (b"", 400),
        (msgpack.packb(tensor(float("nan"))), 400),
        (b'{"type":"Empty"}', 200),
    ],
)
def test_only_values_can_be_uploaded(town: Town, body: bytes, status: int) -> None:
    assert town.http("/upload", token=town.token, body=body)[0] == status


def test_an_upload_that_says_it_is_too_long_is_refused_at_once(town: Town) -> None:
    headers = {"Content-Length": str(2**40)}

    assert town.http("/upload", token=town.token, body=b"{", headers=headers)[0] == 413


@pytest.mark.parametrize("path", ["/upload", "/download", "/workers", "/summary"])
def test_all_else_needs_a_token_for_clients(town: Town, path: str) -> None:
    body = b"{}" if path == "/upload" else None

    assert town.http(path, body=body)[0] == 401
    assert town.http(path, body=body, token="wrong")[0] == 401
    assert town.http(path, body=body, token=town.worker_token)[0] == 403


@pytest.mark.parametrize("path", ["/info", "/workers", "/upload"])
def test_pages_of_others_are_refused(town: Town, path: str) -> None:
    body = b"{}" if path == "/upload" else None
    headers = {"Origin": "https://elsewhere.example"}

    assert town.http(path, token=town.token, body=body, headers=headers)[0] == 403


def test_the_registry_can_be_read(town: Town) -> None:
    (worker,) = json.loads(town.http("/workers", token=town.token)[1])

    assert list(worker) == [
        "id", "address", "capabilities", "load", "active_plans", "last_heartbeat", "connected",
    ]  # fmt: skip
    assert (worker["id"], worker["connected"], worker["active_plans"]) == ("w1", True, [])
    assert worker["address"] == f"ws://127.0.0.1:{town.port}"
    assert worker["last_heartbeat"].endswith("Z")
    status, summary = town.http("/summary", token=town.token)
    cores = worker["capabilities"]["cpu_cores"]
    assert (status, summary.startswith(f"1 workers ({cores} CPUs, 0 GPUs, ".encode())) == (
        200,
        True,
    )


@pytest.mark.parametrize("path", ["/register", "/heartbeat", "/submit", "/complete"])
def test_what_only_a_registry_does_is_not_there(town: Town, path: str) -> None:
    assert town.http(path, token=town.token, body=b"{}")[0] == 404


def test_a_token_may_come_in_the_header(town: Town) -> None:
    headers = {"Authorization": f"Bearer {urllib.parse.quote(town.token)}"}

    assert town.http("/summary", headers=headers)[0] == 200
