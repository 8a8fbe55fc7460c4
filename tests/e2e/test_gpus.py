"""GPUs, through a stand-in for NVIDIA's library: each job sees its own and no other."""

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm, until
from tests.nvml.standin import (
    GIB,
    GPU_IS_LOST,
    NoCompilerError,
    StandinState,
    build_standin,
    environment,
)

from lineshaft import Client


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StandinState:
    state = StandinState(tmp_path_factory.mktemp("nvml") / "state.txt")
    state.add_gpu("GPU-aaaa", name="Standin 24", memory=24 * GIB)
    state.add_gpu("GPU-bbbb", name="Standin 16", memory=16 * GIB)
    return state


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build_standin(tmp_path_factory.mktemp("library"))
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def gpu_farm(
    state: StandinState, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("farm"), "first_workers_s=0") as made:
        made.start_worker("gpus", "--slots", "4", environ=environment(library, state))
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture
def client(gpu_farm: Farm) -> Iterator[Client]:
    with gpu_farm.client() as made:
        yield made


def see(gate: str, note: str) -> str:
    import os
    import signal

    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "nothing said")
    with open(note, "w") as file:
        file.write(seen)
    while not os.path.exists(gate):
        signal.sigtimedwait((), 0.02)
    return seen


def test_the_worker_tells_its_gpus(client: Client) -> None:
    (worker,) = Farm.here(client).values()

    assert [(g["uuid"], g["name"], g["memory_bytes"]) for g in worker["gpus"]] == [
        ("GPU-aaaa", "Standin 24", 24 * GIB),
        ("GPU-bbbb", "Standin 16", 16 * GIB),
    ]
    assert "gpu" in worker["tags"]


def test_each_job_has_a_whole_gpu_and_the_third_waits(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notes = [tmp_path / f"note{n}" for n in range(3)]
    futures = [client.submit(see, str(gate), str(note), resources={"gpus": 1}) for note in notes]
    until(lambda: sum(note.exists() for note in notes) == 2, what="two run")
    (waiting,) = [j for j in client.jobs(status="queued") if j["status"] == "queued"]  # type: ignore[union-attr,index,call-overload]
    why = client.why(waiting["job_id"])  # type: ignore[index,call-overload,arg-type]
    assert "GPU" in str(why)
    assert sum(note.exists() for note in notes) == 2
    gate.touch()

    seen = [future.result(30) for future in futures]

    assert {*seen} == {"GPU-aaaa", "GPU-bbbb"}


def test_jobs_that_ask_for_memory_share_a_gpu(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notes = [tmp_path / f"note{n}" for n in range(2)]
    wanted = {"gpus": 1, "gpu_memory": "8GiB"}
    futures = [client.submit(see, str(gate), str(note), resources=wanted) for note in notes]
    until(lambda: all(note.exists() for note in notes), what="both run")
    gate.touch()

    assert [future.result(30) for future in futures] == ["GPU-bbbb", "GPU-bbbb"]


def test_a_job_that_asks_for_no_gpu_sees_none(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()

    assert client.submit(see, str(gate), str(tmp_path / "note")).result(30) == ""


def test_nothing_is_placed_on_a_gpu_that_failed(
    client: Client, state: StandinState, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    state.change("GPU-bbbb", error=GPU_IS_LOST)
    try:
        until(
            lambda: any(
                gpu["fault"]
                for gpu in Farm.here(client)["gpus"]["gpus"]
                if gpu["uuid"] == "GPU-bbbb"
            ),
            what="the fault is told",
        )
        gate.touch()
        futures = [
            client.submit(see, str(gate), str(tmp_path / f"n{n}"), resources={"gpus": 1})
            for n in range(4)
        ]
        done, _ = concurrent.futures.wait(futures, 30)
        assert {future.result() for future in done} == {"GPU-aaaa"}
        assert len(done) == 4
    finally:
        state.change("GPU-bbbb", error=0)


def fault_of(client: Client, uuid: str) -> str | None:
    (gpu,) = [gpu for gpu in Farm.here(client)["gpus"]["gpus"] if gpu["uuid"] == uuid]
    return gpu["fault"]  # type: ignore[no-any-return]


def test_a_gpu_that_another_program_uses_is_given_out_when_it_is_free_again(
    state: StandinState, library: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    # A farm of its own: a warm runner that may see the GPU makes its use ours.
    with farm(tmp_path / "farm", "first_workers_s=0") as made, made.client() as client:
        state.start("GPU-bbbb", pid=1, used=7 * GIB)
        try:
            made.start_worker("gpus", "--slots", "4", environ=environment(library, state))
            made.until_ready(client)
            until(lambda: "7 GiB" in str(fault_of(client, "GPU-bbbb")), what="the use is told")
            futures = [
                client.submit(see, str(gate), str(tmp_path / f"n{n}"), resources={"gpus": 1})
                for n in range(4)
            ]
            assert {future.result(30) for future in futures} == {"GPU-aaaa"}
        finally:
            state.end(1)
        until(lambda: fault_of(client, "GPU-bbbb") is None, what="it is offered again")
