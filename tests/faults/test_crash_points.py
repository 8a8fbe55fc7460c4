"""F2: a daemon dies at each named point of its work, and nothing is lost or done twice."""

import hashlib
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.e2e.farm import Farm, Process, until
from tests.faults import launcher
from tests.faults.ledger import LedgerClient
from tests.faults.machines import start_worker
from tests.faults.oracles import (
    WORKER_VARIABLE,
    check_records,
    check_slots,
    finished,
    read_journal,
    read_records,
    work,
)
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft_protocol.jobs import JobSpec

Array = NDArray[np.float64]
ROUNDS = rounds(1, 25)
IN_FLIGHT = 20


class Load:
    """Jobs under way on a farm with one worker, and the books about them."""

    def __init__(self, made: Farm, client: Client, journal: Path) -> None:
        self._client, self._journal = client, journal
        client.submit(work, "warm", str(journal), 0.0).result(30)
        self.ledger = LedgerClient(made, self._spec, in_flight_max=IN_FLIGHT)

    def _spec(self, number: int) -> JobSpec:
        job_id = f"job-{number}"
        prepared = self._client._work.call(work, (job_id, str(self._journal), 0.005), {})
        return prepared.spec.model_copy(update={"job_id": job_id})


def start_dying(made: Farm, who: str, point: str, count: int, *flags: str) -> tuple[Process, Path]:
    """Start a daemon that dies at the point; returns it and the file that it writes then."""
    reached = made.folder / f"reached-{point}-{count}"
    reached.unlink(missing_ok=True)
    command = ["-m", launcher.__name__, who, point, str(count)]
    if who == "coordinator":
        command += [
            "--listen",
            f"127.0.0.1:{made.port}",
            "--data",
            str(made.folder / "data"),
            *flags,
        ]
    else:
        command += ["--name", "w1", "--slots", "2", "--grace", "3"]
    environ = {launcher.REACHED_VARIABLE: str(reached), WORKER_VARIABLE: "w1"}
    return made.start(who, *command, environ=environ), reached


def check_all(made: Farm, load: Load, journal: Path, *, losses: int) -> None:
    """The five witnesses agree."""
    load.ledger.finish(90)
    load.ledger.ask_again()
    assert made.coordinator is not None
    made.coordinator.terminate()
    stories = read_records(made.folder / "data")
    load.ledger.check()
    check_records(stories)
    ours = {job_id for job_id in stories if job_id.startswith("job-")}
    assert ours == set(load.ledger.results)
    assert all(finished(stories[job_id]).outcome.status == "succeeded" for job_id in ours)
    runs = read_journal(journal)
    check_slots(runs, {"w1": 2})
    whole = [run.job for run in runs if run.ended_ns is not None]
    assert ours <= set(whole), "a result without a run"
    # Run again was at most what had begun and was not settled when the worker's daemon died.
    assert len(runs) - len(ours) - 1 <= losses, f"{len(runs)} runs of {len(ours)} jobs"


def crash(made: Farm, who: str, point: str, count: int, restart: Callable[[], object]) -> None:
    """Replace the healthy daemon by one that dies, see it die there, and replace that."""
    process = made.coordinator if who == "coordinator" else made.workers["w1"]
    assert process is not None
    process.kill()
    dying, reached = start_dying(made, who, point, count)
    until(lambda: dying.popen.poll() is not None, what=f"{point} is reached")
    assert reached.exists(), dying.said()[-2000:]
    restart()


@pytest.mark.parametrize("who", ["coordinator", "worker"])
def test_a_daemon_that_dies_at_any_point_of_its_work_loses_nothing(
    empty_farm: Farm, tmp_path: Path, who: str
) -> None:
    made, journal = empty_farm, tmp_path / "journal"
    # A job that is first in line again and again meets more deaths than it may lose workers.
    made.timings = ("lost_max=1000000",)
    assert made.coordinator is not None
    made.coordinator.kill()
    made.start_coordinator()
    points = launcher.COORDINATOR_POINTS if who == "coordinator" else launcher.WORKER_POINTS
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, {ROUNDS} deaths at each of {', '.join(points)}")
    dice = random.Random(seed)
    start_worker(made, "w1", "--slots", "2")

    def restart() -> object:
        if who == "coordinator":
            return made.start_coordinator()
        return start_worker(made, "w1", "--slots", "2")

    with made.client() as client:
        made.until_ready(client)
        load = Load(made, client, journal)
        load.ledger.start()
        for point in [*points] * ROUNDS:
            wanted = len(load.ledger.results) + 5
            until(lambda wanted=wanted: len(load.ledger.results) > wanted, what="work goes on")
            count = 1 if point in ("during_replay", "during_adoption") else dice.randrange(2, 12)
            crash(made, who, point, count, restart)
        losses = 0 if who == "coordinator" else IN_FLIGHT * ROUNDS * len(points)
        check_all(made, load, journal, losses=losses)
    seen = f"{ROUNDS} at each, {len(load.ledger.results)} jobs: 0 lost, 0 told twice"
    what = f"death of the {who} at one of {len(points)} named points"
    tell("F2", what, ROUNDS * len(points), seen)


def doubled(array: Array) -> Array:
    return array * 2


@pytest.mark.parametrize("flags", [(), ("--blobs-by-wire",)])
def test_a_coordinator_that_dies_while_a_large_value_gets_its_name_loses_none(
    empty_farm: Farm, flags: tuple[str, ...]
) -> None:
    made, blobs = empty_farm, empty_farm.folder / "data" / "blobs"
    assert made.coordinator is not None
    made.coordinator.kill()
    made.start_coordinator(*flags)
    start_worker(made, "w1", "--slots", "2")

    with made.client() as client:
        made.until_ready(client)
        client.submit(doubled, np.ones(3)).result(60)  # Its code has its name by now.
        deaths = itertools.product(launcher.BLOB_POINTS, ("argument", "result"))
        for number, (point, which) in enumerate(deaths):
            count = 1 if which == "argument" else 2
            array = np.full(1 << 17, number, np.float64)
            made.coordinator.kill()
            dying, reached = start_dying(made, "coordinator", point, count, *flags)
            future = client.submit(doubled, array)
            until(lambda dying=dying: dying.popen.poll() is not None, what=f"{point}, {which}")
            assert reached.exists(), dying.said()[-2000:]
            made.start_coordinator(*flags)

            assert np.array_equal(future.result(60), array * 2)

        made.coordinator.terminate()
    named = [path for path in blobs.glob("??/*") if path.stat().st_size > 1 << 20]
    assert len(named) == 8
    for path in named:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        assert content == path.parent.name + path.name
