"""GPUs, through a stand-in for NVIDIA's library: each job sees its own and no other."""

import concurrent.futures
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from lineshaft.blocking_job import Job
from lineshaft.errors import JobCancelledError


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


def held(
    made: Farm, client: Client, library: Path, state: StandinState, folder: Path
) -> Job[object]:
    """A job that runs on a GPU and holds 7 GiB of it."""
    made.start_worker("gpus", "--slots", "2", "--grace", "0.2", environ=environment(library, state))
    made.until_ready(client)
    params = {"gate": str(folder / "gate"), "note": str(folder / "note")}
    wanted = {"gpus": 1, "gpu_memory": "20GiB"}
    job = client.run("hold.py", files={"hold.py": HOLD}, params=params, resources=wanted)
    note = folder / "note"
    until(lambda: note.exists() and note.read_text(), what="it runs")
    state.start("GPU-aaaa", pid=int(note.read_text()), used=7 * GIB)
    return job


HOLD = """
import os, signal
from lineshaft import run
with open(run.params["note"], "w") as file:
    file.write(str(os.getpid()))
while not os.path.exists(run.params["gate"]):
    signal.sigtimedwait((), 0.02)
"""


def test_a_gpu_whose_memory_was_not_given_back_is_out_of_use_until_it_is(
    state: StandinState, library: Path, tmp_path: Path
) -> None:
    with farm(tmp_path / "farm", "first_workers_s=0") as made, made.client() as client:
        job = held(made, client, library, state, tmp_path)
        pid = int((tmp_path / "note").read_text())
        try:
            # The process ends, its memory stays: as after a driver's fault.
            state.end(pid, keep_memory=True)
            job.cancel()
            error = job.exception(30)
            fault = fault_of(client, "GPU-aaaa")
        finally:
            state.change("GPU-aaaa", used=0)

        assert isinstance(error, JobCancelledError)
        assert "7 GiB" in str(fault), "out of use before the end is told"
        assert f"attempt 1 of job {job.id}" in str(fault)
        until(lambda: fault_of(client, "GPU-aaaa") is None, what="it is offered again")
        wanted = {"gpus": 1, "gpu_memory": "20GiB"}
        (tmp_path / "gate").touch()
        future = client.submit(see, str(tmp_path / "gate"), str(tmp_path / "n"), resources=wanted)
        assert future.result(30) == "GPU-aaaa"


def test_a_gpu_that_kept_memory_is_used_again_when_an_operator_says_so(
    state: StandinState, library: Path, tmp_path: Path
) -> None:
    with farm(tmp_path / "farm", "first_workers_s=0") as made, made.client() as client:
        job = held(made, client, library, state, tmp_path)
        state.end(int((tmp_path / "note").read_text()), keep_memory=True)
        job.cancel()
        job.exception(30)
        try:
            before = fault_of(client, "GPU-aaaa")
            command = ("-m", "lineshaft", "heal", "gpus", "GPU-aaaa")
            healed = made.start("heal", *command, environ={"LINESHAFT_URL": made.url})
            status = healed.popen.wait(30)
            (tmp_path / "gate").touch()
            wanted = {"gpus": 1, "gpu_memory": "20GiB"}
            gate, note = str(tmp_path / "gate"), str(tmp_path / "n")
            used = [client.submit(see, gate, note, resources=wanted).result(30) for _ in range(2)]
        finally:
            state.change("GPU-aaaa", used=0)

        assert "7 GiB" in str(before)
        assert status == 0, healed.said()
        assert "is given out again" in healed.said()
        assert used == ["GPU-aaaa"] * 2, "nor is it blamed again after a job on it"


def test_a_cancelled_job_is_told_as_ended_when_its_gpu_has_its_memory_back(
    state: StandinState, library: Path, tmp_path: Path
) -> None:
    with farm(tmp_path / "farm", "first_workers_s=0") as made, made.client() as client:
        job = held(made, client, library, state, tmp_path)
        pid = int((tmp_path / "note").read_text())
        try:
            job.cancel()
            until(lambda: not Path(f"/proc/{pid}").exists(), what="its process is gone")
            with pytest.raises(TimeoutError):
                job.exception(1.0)
        finally:
            state.end(pid)

        assert isinstance(job.exception(30), JobCancelledError)
        assert fault_of(client, "GPU-aaaa") is None


def test_a_gpu_that_was_taken_since_the_last_look_is_not_started_on(
    state: StandinState, library: Path, tmp_path: Path
) -> None:
    with farm(tmp_path / "farm", "first_workers_s=0") as made, made.client() as client:
        made.start_worker("gpus", "--slots", "4", environ=environment(library, state))
        made.until_ready(client)
        (tmp_path / "gate").touch()
        try:
            # Nobody has told the coordinator; the worker looks when it is about to start.
            state.start("GPU-bbbb", pid=1, used=7 * GIB)
            futures = [
                client.submit(
                    see, str(tmp_path / "gate"), str(tmp_path / f"n{n}"), resources={"gpus": 1}
                )
                for n in range(4)
            ]
            assert {future.result(30) for future in futures} == {"GPU-aaaa"}
        finally:
            state.end(1)


def test_the_most_gpu_memory_of_a_job_is_on_its_record(
    state: StandinState, library: Path, tmp_path: Path
) -> None:
    with farm(tmp_path / "farm", "first_workers_s=0") as made, made.client() as client:
        job = held(made, client, library, state, tmp_path)
        pid = int((tmp_path / "note").read_text())
        # Somebody beside it on the same GPU does not count.
        state.start("GPU-aaaa", pid=1, used=3 * GIB)
        try:
            until(lambda: peak_so_far(client, job) == 7 * GIB, what="it was looked at")
        finally:
            state.end(pid)
            state.end(1)
        (tmp_path / "gate").touch()
        job.result(30)

        record = about_job(made, job)
        assert record["peak_gpu_memory_bytes"] == 7 * GIB


def peak_so_far(client: Client, job: Job[object]) -> int | None:
    load = Farm.here(client)["gpus"]["load"]
    return load.get("peak_gpu_memory_of_jobs", {}).get(job.id)  # type: ignore[no-any-return]


def about_job(made: Farm, job: Job[object]) -> dict[str, Any]:
    command = [sys.executable, "-m", "lineshaft", "job", job.id, "--json"]
    told = subprocess.run(
        command, env=made.environ | {"LINESHAFT_URL": made.url}, check=True, capture_output=True
    )
    return json.loads(told.stdout)  # type: ignore[no-any-return]


def tell_share(folder: str) -> str:
    import os

    with open(os.path.join(folder, os.environ["RANK"]), "w") as file:
        file.write(os.environ["CUDA_VISIBLE_DEVICES"])
    return ""


def test_each_rank_sees_its_share_of_the_gpus(client: Client, tmp_path: Path) -> None:
    source = inspect.getsource(tell_share)

    client.run(
        "share.py:tell_share",
        files={"share.py": source},
        params={"folder": str(tmp_path)},
        resources={"gpus": 2},
        processes=2,
    ).result(60)

    seen = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert seen.keys() == {"0", "1"}
    assert sorted(seen.values()) == ["GPU-aaaa", "GPU-bbbb"]
