"""Large values in an object store: a folder that all see, so that real daemons can use it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.e2e.farm import Farm, until

from lineshaft import AsyncClient, Client
from lineshaft.errors import BlobMissingError, PayloadLostError
from lineshaft_coordinator.server.backups import back_up, check_data, restore, summary_view

LARGE = os.urandom(3 * 1024 * 1024)
SAID = "large blobs go to the object store"


def turned(data: bytes) -> bytes:
    return data[::-1]


def made() -> bytes:
    import os

    return os.urandom(3 * 1024 * 1024)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def farm(tmp_path: Path, store: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    try:
        farm.start_coordinator("--blob-store", f"file://{store}", "--blobs-by-wire")
        yield farm
    finally:
        farm.close()


def objects(store: Path) -> list[Path]:
    return sorted(path for path in store.glob("??/*") if path.stat().st_size > 1 << 20)


def files_here(farm: Farm) -> list[Path]:
    found = (farm.folder / "data" / "blobs").glob("??/*")
    return sorted(path for path in found if path.stat().st_size > 1 << 20)


def seen_direct(farm: Farm) -> None:
    worker = farm.start_worker("w1")
    until(lambda: SAID in worker.said(), what="the worker reaches the store")


async def ended(farm: Farm) -> tuple[str, str]:
    """Run a job with a large result that nobody fetches; returns its id and status."""
    token = (farm.home / "token").read_text().strip()
    async with AsyncClient(farm.url, token=token) as client:
        job = client.submit(made)
        async for _ in job.events():
            pass
        return job.id, await job.status()


def test_a_value_goes_out_and_back_and_lies_in_the_store(farm: Farm, store: Path) -> None:
    seen_direct(farm)

    with farm.client() as client:
        assert client.submit(turned, LARGE).result(timeout=60) == LARGE[::-1]

    until(lambda: len(objects(store)) == 2, what="argument and result are in the store")
    assert list((store / "partial").iterdir()) == []


async def test_a_result_reaches_the_store_past_the_coordinator(farm: Farm, store: Path) -> None:
    seen_direct(farm)

    job_id, status = await ended(farm)

    assert status == "succeeded"
    (result,) = objects(store)
    assert files_here(farm) == []
    with farm.client() as client:
        assert client.job(job_id).result(timeout=60) is not None
    # Only now did it pass, for a client without credentials.
    assert [path.stat().st_size for path in files_here(farm)] == [result.stat().st_size]


async def test_a_worker_that_cannot_reach_the_store_goes_by_the_coordinator(
    tmp_path: Path, store: Path
) -> None:
    pytest.importorskip("fsspec")
    without = tmp_path / "without"
    (without / "fsspec").mkdir(parents=True)
    (without / "fsspec" / "__init__.py").write_text("raise ImportError('not installed')\n")
    farm = Farm(tmp_path)
    try:
        farm.start_coordinator("--blob-store", f"local://{store}", "--blobs-by-wire")
        worker = farm.start_worker("w1", environ={"PYTHONPATH": str(without)})
        until(lambda: "fsspec is not installed here" in worker.said(), what="it says why")

        _, status = await ended(farm)

        assert status == "succeeded"
        until(lambda: len(objects(store)) == 1, what="the coordinator moves it there")
        assert len(files_here(farm)) == 1
    finally:
        farm.close()


async def test_an_object_that_vanished_is_a_typed_error(farm: Farm, store: Path) -> None:
    seen_direct(farm)
    job_id, _ = await ended(farm)

    (result,) = objects(store)
    result.unlink()

    with farm.client() as client, pytest.raises(BlobMissingError, match="is lost"):
        client.job(job_id).result(timeout=60)


def test_a_job_whose_argument_vanished_fails_and_says_so(farm: Farm, store: Path) -> None:
    with farm.client() as client:
        client.put(LARGE)
        index = farm.folder / "data" / "blobs" / "objects"
        until(lambda: list(index.glob("??/*")), what="it is in the store, and on record")
        for path in (*objects(store), *files_here(farm)):
            path.unlink()
        # A start of the coordinator finds no copy, and believes its index.
        assert farm.coordinator is not None
        farm.coordinator.terminate()
        farm.start_coordinator("--blob-store", f"file://{store}", "--blobs-by-wire")
    with farm.client() as client:
        seen_direct(farm)

        lost = client.submit(turned, client.put(LARGE)).exception(timeout=60)

        again = client.submit(turned, client.put(LARGE)).result(timeout=60)

    assert isinstance(lost, PayloadLostError)
    assert again == LARGE[::-1]  # It was sent anew.


def test_why_says_that_the_store_with_what_a_job_needs_is_away(farm: Farm, store: Path) -> None:
    seen_direct(farm)
    farm.workers["w1"].kill()
    with farm.client() as client:
        ref = client.put(LARGE)
        index = farm.folder / "data" / "blobs" / "objects"
        until(lambda: list(index.glob("??/*")), what="it is in the store, and on record")
        assert farm.coordinator is not None
        farm.coordinator.terminate()
        for path in files_here(farm):
            path.unlink()
        store.rename(store.with_name("away"))
        farm.start_coordinator("--blob-store", f"file://{store}", "--blobs-by-wire")
        job = client.submit(turned, ref)

        def reason() -> str | None:
            told = cast("dict[str, list[str]]", client.why(job.id))["reasons"]
            return next((each for each in told if "object store alone" in each), None)

        said = until(lambda: reason(), what="it says so")

    assert "1 of the blobs" in said
    assert "no folder" in said


def test_a_coordinator_says_in_one_line_why_it_cannot_start(tmp_path: Path, store: Path) -> None:
    farm = Farm(tmp_path)
    try:
        for url, why in (
            ("s3://key:secret@bucket", "credentials"),
            (f"file://{store}/nowhere", "no folder"),
        ):
            data = ("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
            command = ("-m", "lineshaft_coordinator", *data, "--blob-store", url)
            process = farm.start("coordinator", *command)
            assert process.popen.wait(60) == 2
            assert why in process.said()
            assert "Traceback" not in process.said()
    finally:
        farm.close()


def test_a_new_value_is_taken_while_the_store_is_away(farm: Farm, store: Path) -> None:
    store.rename(store.with_name("away"))
    client: Client
    with farm.client() as client:
        farm.start_worker("w1")

        assert client.submit(turned, LARGE).result(timeout=60) == LARGE[::-1]

    store.with_name("away").rename(store)
    until(lambda: len(objects(store)) == 2, what="both move there once it is back")


def test_check_backup_and_restore_know_of_objects(farm: Farm, store: Path) -> None:
    seen_direct(farm)
    asyncio.run(ended(farm))
    data, copy, restored = (farm.folder / name for name in ("data", "copy", "restored"))
    assert farm.coordinator is not None
    farm.coordinator.terminate()
    (result,) = objects(store)

    backup = summary_view(back_up(data, copy))
    restore(copy, restored)

    facts = {"problems": [], "blob_store": f"file://{store}", "objects": 1}
    assert facts | {"object_bytes": result.stat().st_size} == {
        key: backup[key] for key in (*facts, "object_bytes")
    }
    assert [path for path in copy.glob("blobs/??/*") if path.stat().st_size > 1 << 20] == []
    for folder in (data, copy, restored):
        assert check_data(folder, reads_blobs=True).problems == ()
    content = result.read_bytes()
    result.write_bytes(content[:-1] + b"?")
    assert check_data(restored, reads_blobs=False).problems == ()
    (problem,) = check_data(restored, reads_blobs=True).problems
    assert "is damaged" in problem
    result.write_bytes(content[:-1])
    (problem,) = check_data(restored, reads_blobs=False).problems
    assert f"has {len(content) - 1} bytes, not {len(content)}" in problem
    result.unlink()
    (problem,) = check_data(restored, reads_blobs=False).problems
    assert problem.endswith(f"{result.name} is missing")
    store.rename(store.with_name("away"))
    (problem,) = check_data(restored, reads_blobs=False).problems
    assert "cannot be used now" in problem
