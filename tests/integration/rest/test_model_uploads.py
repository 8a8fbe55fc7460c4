"""The upload of a model has the limit of all uploads, and leaves nothing behind when it is over."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from tests.integration.rest.conftest import BLOB_BYTES_MAX, MODELS_BYTES_MAX

from lineshaft_coordinator.server.admission import Gate

VERSIONS = "/api/models/{}/versions"


@pytest.fixture
async def http(whole: tuple[Starlette, Gate]) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(whole[0])
    headers = {"Authorization": "Bearer local"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers
    ) as client:
        yield client


async def a_model(http: httpx.AsyncClient) -> str:
    made = await http.post("/api/models", json={"name": "net", "model_type": "mlp"})
    assert made.status_code == 201, made.text
    return VERSIONS.format(made.json()["id"])


@pytest.mark.parametrize("is_length_said", [True, False])
async def test_a_model_that_is_too_long_is_refused_with_the_limit(
    http: httpx.AsyncClient, tmp_path: Path, *, is_length_said: bool
) -> None:
    path = await a_model(http)
    long = httpx.Request("POST", path, files={"file": ("m.bin", bytes(BLOB_BYTES_MAX))})
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        body = long.read()
        for start in range(0, len(body), 100_000):
            sent += 1
            yield body[start : start + 100_000]

    headers = {"Content-Type": long.headers["Content-Type"]}
    if is_length_said:
        headers["Content-Length"] = long.headers["Content-Length"]
    refused = await http.post(path, content=pieces(), headers=headers)

    assert refused.status_code == 413
    assert refused.json() == {"error": f"an upload has at most {BLOB_BYTES_MAX} bytes"}
    assert (await http.get(path)).json() == []
    assert [*(tmp_path / "data").rglob("*.tmp")] == []
    short = await http.post(path, files={"file": ("m.bin", bytes(BLOB_BYTES_MAX - 1000))})
    assert short.status_code == 201, short.text


async def test_a_model_for_which_there_is_no_room_is_refused_and_leaves_nothing(
    http: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await a_model(http)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        refused = await http.post(path, files={"file": ("m.bin", b"weights")})

    assert (refused.status_code, "no room" in refused.json()["error"]) == (507, True)
    assert [*(tmp_path / "data").rglob("*.tmp")] == []
    assert (await http.post(path, files={"file": ("m.bin", b"weights")})).status_code == 201


async def test_what_is_no_form_is_refused_with_what_to_send(http: httpx.AsyncClient) -> None:
    path = await a_model(http)

    for content_type in ("application/json", "multipart/form-data", ""):
        refused = await http.post(path, content=b"x", headers={"Content-Type": content_type})
        assert (refused.status_code, refused.json()) == (
            400,
            {"error": "send a form with the model as 'file'"},
        )


async def test_a_field_that_is_too_long_is_refused_as_such(http: httpx.AsyncClient) -> None:
    path = await a_model(http)
    metrics = json.dumps({"note": "x" * (1 << 20)})

    files = {"file": ("m.bin", b"weights")}
    refused = await http.post(path, files=files, data={"metrics": metrics})

    assert refused.status_code == 413
    assert "a field of the form has at most 1 MiB" in refused.json()["error"]
    assert (await http.get(path)).json() == []


async def test_all_models_together_have_a_limit_and_one_that_goes_makes_room(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    paths = [await a_model(http) for _ in range(2)]
    size = BLOB_BYTES_MAX - 1000
    fitting = MODELS_BYTES_MAX // size

    async def sent(path: str) -> httpx.Response:
        return await http.post(path, files={"file": ("m.bin", bytes(size))})

    first = [(await sent(paths[0])).status_code for _ in range(fitting)]
    # Two come at once, and both see that there is no room.
    refused = await asyncio.gather(*(sent(paths[1]) for _ in range(2)))
    assert (await http.delete(paths[0].removesuffix("/versions"))).status_code == 204
    later = await sent(paths[1])

    assert first == [201] * fitting
    assert [each.status_code for each in refused] == [507, 507]
    assert "--models-bytes-max" in refused[0].json()["error"]
    assert [*(tmp_path / "data").rglob("*.tmp")] == []
    assert later.status_code == 201


async def test_of_two_that_come_at_once_the_last_place_is_one_s(http: httpx.AsyncClient) -> None:
    path = await a_model(http)
    size = BLOB_BYTES_MAX - 1000
    for _ in range(MODELS_BYTES_MAX // size - 1):
        await http.post(path, files={"file": ("m.bin", bytes(size))})

    sent = (http.post(path, files={"file": ("m.bin", bytes(size))}) for _ in range(3))
    ends = await asyncio.gather(*sent)

    assert sorted(each.status_code for each in ends) == [201, 507, 507]


@pytest.mark.parametrize("path", ["e/metadata", "e/runs/r/metadata"])
async def test_the_body_of_an_edit_has_a_limit(http: httpx.AsyncClient, path: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while True:  # Without an end: who reads it whole never answers.
            yield b" " * 100_000

    refused = await http.patch(f"/api/experiments/{path}", content=pieces())

    assert refused.status_code == 413, refused.text
    assert "at most 2097152 bytes" in refused.json()["error"]
