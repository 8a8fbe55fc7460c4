"""Jobs on two workers at once: real daemons, ranks that find each other over loopback."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm, until

from lineshaft import Client
from lineshaft.errors import JobCancelledError, NotPausedError, ProcessExitedError


@pytest.fixture(scope="module")
def gang_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("farm"), "first_workers_s=0") as made:
        for name in ("left", "right"):
            made.start_worker(name, "--slots", "1", "--grace", "0.2")
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture
def client(gang_farm: Farm) -> Iterator[Client]:
    with gang_farm.client() as made:
        yield made


SUM = """
import os, socket
from lineshaft import run

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
print("rank", rank, "of", world, flush=True)
if rank == 0:
    # As torch.distributed and Dask do: listen where the others were told.
    server = socket.create_server(place)
    total = 0
    for _ in range(world - 1):
        peer, _ = server.accept()
        total += int(peer.recv(100))
        peer.close()
    run.result({"total": total, "worker": os.environ["GROUP_RANK"]})
else:
    while True:
        try:
            peer = socket.create_connection(place, timeout=30)
            break
        except ConnectionRefusedError:
            pass  # Rank 0 is not there yet.
    peer.sendall(str(rank * 10).encode())
    peer.close()
"""


def test_ranks_on_two_workers_find_each_other(client: Client) -> None:
    job = client.run("sum.py", files={"sum.py": SUM}, nodes=2)

    assert job.result(60) == {"total": 10, "worker": "0"}
    listed = {each["job_id"]: each for each in client.jobs()}  # type: ignore[index,union-attr,call-overload]
    ranks = [listed[job.id], listed[f"{job.id}.rank1"]]
    assert [each["status"] for each in ranks] == ["succeeded", "succeeded"]  # type: ignore[index,call-overload]
    assert {each["worker_id"] for each in ranks} == {"left", "right"}  # type: ignore[index,call-overload]


def test_the_next_gang_meets_elsewhere(client: Client) -> None:
    program = SUM.replace('"worker": os.environ["GROUP_RANK"]', '"port": place[1]')

    first = client.run("sum.py", files={"sum.py": program}, nodes=2).result(60)
    second = client.run("sum.py", files={"sum.py": program}, nodes=2).result(60)

    assert first["port"] != second["port"]  # type: ignore[index]


DIES = """
import os, signal, sys
from lineshaft import run
open(run.params["folder"] + "/" + os.environ["RANK"], "w").write(str(os.getpid()))
if os.environ["RANK"] == "1" and run.params["dies"]:
    while not os.path.exists(run.params["folder"] + "/0"):
        signal.sigtimedwait((), 0.02)
    sys.exit(3)
while True:
    signal.pause()  # It waits for its peers, for ever.
"""


def test_one_rank_that_dies_ends_the_gang_and_is_named(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "dies": True}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, nodes=2)

    with pytest.raises(ProcessExitedError, match=r"rank 1 on worker (left|right) failed: .*3"):
        job.result(60)

    pid = int((tmp_path / "0").read_text())
    assert not Path(f"/proc/{pid}").exists(), "rank 0 was ended before the end was told"


def test_a_cancel_ends_all_ranks(client: Client, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "dies": False}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, nodes=2)
    until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), what="both run")
    until(lambda: all((tmp_path / n).read_text() for n in "01"), what="both have said who they are")

    job.cancel()

    assert isinstance(job.exception(60), JobCancelledError)
    pids = [int((tmp_path / name).read_text()) for name in ("0", "1")]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_pause_of_a_gang_is_refused_and_disturbs_no_rank(
    client: Client, tmp_path: Path, freeze: bool
) -> None:
    params = {"folder": str(tmp_path), "dies": False}
    job = client.run("dies.py", files={"dies.py": DIES}, params=params, nodes=2)
    until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), what="both run")

    for each in (job, client.job(f"{job.id}.rank1")):
        with pytest.raises(NotPausedError, match=r"runs on several workers.* cancel it instead"):
            each.pause(freeze=freeze)

    told = [each["type"] for each in client.story(job.id)]  # type: ignore[union-attr,index,call-overload]
    assert "PauseRequested" not in told
    until(lambda: job.status == "running", what="it goes on")
    job.cancel()
    assert isinstance(job.exception(60), JobCancelledError)


def test_a_gang_larger_than_the_farm_is_refused(client: Client) -> None:
    job = client.run("sum.py", files={"sum.py": SUM}, nodes=3)

    with pytest.raises(Exception, match="3 workers at once, and 2 could"):
        job.result(30)


TORCH = """
import torch
import torch.distributed as dist
from lineshaft import run

dist.init_process_group("gloo")  # Reads MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE.
value = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(value)
dist.destroy_process_group()
run.result(value.item())
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_distributed_runs_inside_a_gang(client: Client) -> None:
    assert client.run("reduce.py", files={"reduce.py": TORCH}, nodes=2).result(120) == 3.0
