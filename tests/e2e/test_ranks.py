"""Jobs in several processes: real daemons, ranks on one worker and on two."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm, until
from tests.e2e.test_gangs import SUM

from lineshaft import Client
from lineshaft.blocking_job import Job
from lineshaft.errors import (
    JobCancelledError,
    JobRefusedError,
    ProcessExitedError,
)


@pytest.fixture(scope="module")
def rank_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("farm"), "first_workers_s=0") as made:
        for name in ("left", "right"):
            made.start_worker(name, "--slots", "1", "--grace", "10")
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture
def client(rank_farm: Farm) -> Iterator[Client]:
    with rank_farm.client() as made:
        yield made


TELLS = """
import os, pathlib
from lineshaft import run

def main(folder):
    names = "RANK LOCAL_RANK LOCAL_WORLD_SIZE WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE"
    told = " ".join(os.environ[name] for name in names.split())
    pathlib.Path(folder, os.environ["RANK"]).write_text(told)
    return run.params["folder"], run.input_data()
"""


def test_each_process_is_told_its_rank(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path)}
    job = client.run(
        "tells.py:main", files={"tells.py": TELLS}, params=params, input_data=[7], processes=3
    )

    assert job.result(60) == (str(tmp_path), [7]), "what rank 0 returned"
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "0": "0 0 3 3 0 1",
        "1": "1 1 3 3 0 1",
        "2": "2 2 3 3 0 1",
    }


def test_each_process_on_each_worker_is_told_its_rank(client: Client, tmp_path: Path) -> None:
    job = client.run(
        "tells.py:main",
        files={"tells.py": TELLS},
        params={"folder": str(tmp_path)},
        nodes=2,
        processes=2,
    )

    job.result(60)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "0": "0 0 2 4 0 2",
        "1": "1 1 2 4 0 2",
        "2": "2 0 2 4 1 2",
        "3": "3 1 2 4 1 2",
    }


@pytest.mark.parametrize("nodes", [None, 2], ids=["one worker", "two workers"])
def test_ranks_find_each_other_at_the_meeting_place(client: Client, nodes: int | None) -> None:
    job = client.run("sum.py", files={"sum.py": SUM}, nodes=nodes, processes=2)

    ranks = 2 * (nodes or 1)
    assert job.result(60)["total"] == sum(10 * rank for rank in range(ranks))  # type: ignore[index]


LARGE = """
import os
from lineshaft import run
run.result(os.environ["RANK"] * 3_000_000)
"""


def test_a_large_result_of_rank_0_is_the_jobs(client: Client) -> None:
    job = client.run("large.py", files={"large.py": LARGE}, processes=2)

    assert job.result(60) == "0" * 3_000_000


def test_a_rank_0_that_leaves_without_a_result_is_named(client: Client) -> None:
    job = client.run("leaves.py", files={"leaves.py": "import os\nos._exit(0)\n"}, processes=2)

    with pytest.raises(ProcessExitedError, match="rank 0 left with status 0 before there was a"):
        job.result(60)


PRINTS = """
import os, sys
rank = os.environ["RANK"]
for number in range(300):
    print(f"line {number} of {rank}")
sys.stderr.write(f"an end of {rank}")
"""


def test_what_ranks_print_is_theirs_line_by_line(client: Client) -> None:
    job = client.run("prints.py", files={"prints.py": PRINTS}, processes=2)
    job.result(60)

    lines = _printed(job)

    for rank in "01":
        own = [line for line in lines if line.startswith(f"[rank {rank}] line ")]
        assert own == [f"[rank {rank}] line {number} of {rank}" for number in range(300)]
        assert f"[rank {rank}] an end of {rank}" in lines
    assert len(lines) == 602


def _printed(job: Job[object]) -> list[str]:
    streams = ("stdout", "stderr")
    return [line for name in streams for line in "".join(job.logs(stream=name)).splitlines()]


DIES = """
import os, pathlib, signal, sys
from lineshaft import run

folder, rank = pathlib.Path(run.params["folder"]), os.environ["RANK"]
if os.fork() == 0:  # As a loader of data does.
    signal.pause()
    os._exit(0)
draft = folder / f"{rank}.part"
draft.write_text(str(os.getpid()))
draft.rename(folder / rank)
print("here is", rank, flush=True)
while rank != run.params.get("rank") or len(list(folder.glob("?"))) < int(os.environ["WORLD_SIZE"]):
    signal.sigtimedwait((), 0.02)  # It waits for its peers, for ever.
sys.stderr.write("it goes wrong\\n")
exec(run.params["how"])
"""


@pytest.mark.parametrize("nodes", [None, 2], ids=["one worker", "two workers"])
def test_the_first_dead_rank_ends_all(client: Client, tmp_path: Path, nodes: int | None) -> None:
    params = {"folder": str(tmp_path), "rank": "1", "how": "sys.exit(3)"}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, nodes=nodes, processes=2)

    with pytest.raises(ProcessExitedError, match="rank 1 left with status 3") as caught:
        job.result(60)

    assert caught.value.last_lines == ("it goes wrong",)
    assert not any(Path(f"/proc/{pid}").exists() for pid in _pids(tmp_path))
    assert len(_pids(tmp_path)) == 2 * (nodes or 1)


def test_a_rank_that_a_signal_ends_is_named(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "rank": "2", "how": "os.kill(os.getpid(), 9)"}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, processes=3)

    with pytest.raises(ProcessExitedError, match="rank 2 was ended by SIGKILL"):
        job.result(60)

    assert not any(Path(f"/proc/{pid}").exists() for pid in _pids(tmp_path))


def test_what_a_rank_raised_is_the_jobs_failure(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "rank": "1", "how": "raise ValueError('no such shard')"}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, processes=2)

    with pytest.raises(ValueError, match="no such shard") as caught:
        job.result(60)

    assert "rank 1: no such shard" in caught.value.__notes__


def test_a_cancel_ends_all_ranks_and_what_they_started(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path)}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, processes=3)
    until(lambda: len(_pids(tmp_path)) == 3, what="all run")
    group = os.getpgid(_pids(tmp_path)[0])

    job.cancel()

    assert isinstance(job.exception(60), JobCancelledError)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


GRACEFUL = """
import os, pathlib, signal, sys
from lineshaft import run
folder, rank = pathlib.Path(run.params["folder"]), os.environ["RANK"]
def leave(*_):
    (folder / f"saved{rank}").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
(folder / rank).touch()
while True:
    signal.pause()
"""


def test_a_cancel_leaves_each_rank_its_grace(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path)}
    job = client.run("graceful.py", files={"graceful.py": GRACEFUL}, params=params, processes=2)
    until(lambda: len(list(tmp_path.glob("?"))) == 2, what="both run")

    job.cancel()

    job.exception(60)
    assert {each.name for each in tmp_path.glob("saved*")} == {"saved0", "saved1"}


PAUSES = """
import os, pathlib, signal
from lineshaft import run
folder, rank = pathlib.Path(run.params["folder"]), os.environ["RANK"]
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
saved = run.latest_checkpoint()
if saved is not None:
    run.result(saved.step)
else:
    (folder / rank).touch()
    while not (told and run.should_pause()):
        signal.sigtimedwait((), 0.02)
    if rank == "0":
        pathlib.Path("model.txt").write_text("weights")
        run.checkpoint("model.txt", step=5)
"""


def test_a_pause_reaches_all_ranks_and_goes_on_from_what_one_saved(
    client: Client, tmp_path: Path
) -> None:
    params = {"folder": str(tmp_path)}
    job = client.run("pauses.py", files={"pauses.py": PAUSES}, params=params, processes=2)
    until(lambda: len(list(tmp_path.glob("?"))) == 2, what="both run")

    job.pause()
    until(lambda: job.status == "paused", what="it is paused")
    job.resume()

    assert job.result(60) == 5


def test_processes_are_for_pipeline_jobs(client: Client) -> None:
    future = client.submit(signal.Signals, 9, processes=2)

    with pytest.raises(JobRefusedError, match="only pipeline jobs take processes"):
        future.result(30)


def test_gpus_that_ranks_cannot_share_evenly_are_refused(client: Client) -> None:
    job = client.run(
        "sum.py", files={"sum.py": SUM}, processes=2, resources={"gpus": 3}, queue_timeout=5
    )

    with pytest.raises(JobRefusedError, match="2 processes cannot share 3 GPUs evenly"):
        job.result(30)


def _pids(folder: Path) -> list[int]:
    return [int(each.read_text()) for each in folder.glob("?")]
