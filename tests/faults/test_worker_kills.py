"""F3 and F4: a worker's daemon is killed beside its jobs, or its whole machine goes down."""

import json
import os
import random
import re
import signal
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.farm import Farm, select_pause, until
from tests.faults.machines import cut_power, ends_of, start_worker
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.blocking_job import Job
from lineshaft.errors import WorkerLostError
from lineshaft.job_events import Finished, Log, Metrics, Notice

DAEMON_KILLS = rounds(10, 500)
POWER_CUTS = rounds(2, 100)

TALKER = """
import json, os, signal, sys
from lineshaft import run

gate, pid_file = run.params["gate"], run.params["pid_file"]
with open(pid_file, "a") as file:
    file.write(f"{os.getpid()}\\n")
number = 0
while not os.path.exists(gate):
    number += 1
    print(f"line {number}", flush=True)
    run.log({"number": number}, step=number)
    signal.sigtimedwait((), 0.004)
run.result([os.getpid(), number])
"""


def talk(client: Client, folder: Path) -> Job[object]:
    """Start a pipeline job that prints and logs numbers until it is let out."""
    params = {"gate": str(folder / "gate"), "pid_file": str(folder / "pids")}
    return client.run("talk.py", files={"talk.py": TALKER}, params=params, lost_after=300.0)


def check_told(job: Job[object], count: int) -> None:
    """Every line and every number was told, once and in order."""
    events = list(job.events())
    assert not [e for e in events if isinstance(e, Notice)], "nothing was dropped"
    text = "".join(event.text for event in events if isinstance(event, Log))
    lines = [int(n) for n in re.findall(r"line (\d+)\n", text)]
    metrics = [event.step for event in events if isinstance(event, Metrics)]
    expected = list(range(1, count + 1))
    assert lines == expected, f"{len(lines)} of {count} lines"
    assert metrics == expected, f"{len(metrics)} of {count} metrics"
    assert isinstance(events[-1], Finished)


def test_killed_daemons_neither_disturb_their_job_nor_lose_a_line_of_it(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made, seed = empty_farm, random.randrange(1 << 32)
    print(f"seed {seed}, {DAEMON_KILLS} kills")
    dice = random.Random(seed)
    pids = tmp_path / "pids"
    takeovers = 0
    with made.client() as client:
        worker = start_worker(made, "w1", "--slots", "1")
        made.until_ready(client)
        job = talk(client, tmp_path)
        until(lambda: pids.exists() and pids.read_text(), what="it runs")
        for number in range(DAEMON_KILLS):
            # Else in the middle of taking over.
            if number == 1 or dice.random() < 0.7:
                until(lambda: Farm.here(client).get("w1"), what="the daemon is back")
                takeovers += number > 0
            for _ in range(dice.randrange(40)):
                select_pause()
            worker.kill()
            # What the coordinator says of it then is of the next one.
            until(lambda: not Farm.here(client).get("w1"), what="the daemon is away")
            worker = start_worker(made, "w1", "--slots", "1")
        until(lambda: Farm.here(client).get("w1"), what="the last daemon is back")
        (tmp_path / "gate").touch()

        pid, count = cast("list[int]", job.result(60))
        check_told(job, count)
        story = cast("list[dict[str, object]]", job.story())

    assert takeovers, "a daemon must have taken over what it was killed beside"
    assert pids.read_text() == f"{pid}\n", "the same process from beginning to end"
    assert ends_of(story) == ["JobSubmitted", "AttemptStarted", "JobFinished"]
    seen = f"same process, same attempt, each of {count} lines and metrics once"
    tell("F3", "kill -9 of a worker's daemon beside its job", DAEMON_KILLS, seen)


def test_what_a_job_said_while_coordinator_and_daemon_were_dead_arrives(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made, spoken = empty_farm, tmp_path / "pids"
    worker = start_worker(made, "w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        job = talk(client, tmp_path)
        until(lambda: spoken.exists() and client.jobs(status="running"), what="it runs")
        assert made.coordinator is not None
        made.coordinator.kill()
        for _ in range(60):
            select_pause()
        worker.kill()
        start_worker(made, "w1", "--slots", "1")
        for _ in range(60):
            select_pause()
        made.start_coordinator()
        until(lambda: Farm.here(client).get("w1"), what="the worker is back")
        (tmp_path / "gate").touch()

        _, count = cast("list[int]", job.result(60))
        check_told(job, count)


def hold(pid_file: str, gate: str) -> str:
    with open(pid_file, "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(gate):
        signal.sigtimedwait((), 0.02)
    return "held"


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_work_of_a_machine_that_lost_power_runs_once_more_and_says_why(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made = empty_farm
    worker = start_worker(made, "w1", "--slots", "2")
    with made.client() as client:
        made.until_ready(client)
        for number in range(POWER_CUTS):
            pids, gate = tmp_path / f"pids-{number}", tmp_path / f"gate-{number}"
            # One kind is given away at once, the other is waited for until the machine is back.
            kept = client.options(lost_after=300.0).submit(hold, str(pids), str(gate))
            until(lambda pids=pids: lines_of(pids) == 1, what="it runs")
            assert cut_power(made, worker) >= 3, "daemon, shim and runner"
            worker = start_worker(made, "w1", "--slots", "2")
            until(lambda pids=pids: lines_of(pids) == 2, what="it runs again")
            gate.touch()

            assert kept.result(30) == "held"
            story = cast("list[dict[str, Any]]", client.story(kept.id))
            assert ends_of(story) == [
                "JobSubmitted",
                "AttemptStarted",
                "AttemptLeft:worker_lost",
                "AttemptStarted",
                "JobFinished",
            ]
            assert lines_of(pids) == 2, "twice, and no more"
    tell("F4", "loss of a machine's power", POWER_CUTS, "its job ran once more, and said why")


def test_a_job_that_lost_three_machines_is_not_given_a_fourth(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made, pids = empty_farm, tmp_path / "pids"
    with made.client() as client:
        worker = start_worker(made, "w1", "--slots", "1")
        made.until_ready(client)
        future = client.submit(hold, str(pids), str(tmp_path / "gate"), retries=5)
        for count in (1, 2, 3):
            until(lambda count=count: lines_of(pids) == count, what=f"attempt {count} runs")
            cut_power(made, worker)
            worker = start_worker(made, "w1", "--slots", "1")

        with pytest.raises(WorkerLostError, match="3 workers were lost"):
            future.result(30)
        story = cast("list[dict[str, Any]]", client.story(future.id))
        assert story[-1]["outcome"]["failure"]["cause"] == "worker_lost"
        assert lines_of(pids) == 3
        # The machine is fine: others run on it.
        assert client.submit(json.dumps, [1]).result(30) == "[1]"
    tell("F4", "loss of a job's machine, in a row", 3, "given up as `worker_lost`")
