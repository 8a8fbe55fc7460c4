"""F3: a worker's daemon is dead, or stands still, for longer than its attempts have a lease."""

import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.farm import Farm, farm, until
from tests.faults.machines import ends_of, processes_of, start_worker
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.blocking_job import Job

ABSENCES = rounds(1, 40)
LOST_AFTER_S = 6.0
PATIENT_S = 12.0
"""A `lost_after` whose lease of 6.6 s is enough for a daemon to start in."""
TIMINGS = ("heartbeat_s=0.4", "suspect_s=1", "silence_s=1.2")

BEATING = """
import os, signal, subprocess, sys, time
from lineshaft import run

BEAT = '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while not os.path.exists(sys.argv[2]):
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.environ['FAULTS_WORKER']} {os.getpid()} {time.monotonic_ns()}\\\\n")
    signal.sigtimedwait((), 0.01)
'''
arguments = [run.params["beats"], run.params["gate"]]
# One of its processes is in a session of its own, and none of them hears SIGTERM.
child = subprocess.Popen([sys.executable, "-c", BEAT, *arguments], start_new_session=True)
sys.argv[1:] = arguments
exec(BEAT)
child.wait()
run.result(os.environ["FAULTS_WORKER"])
"""


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Farm]:
    with farm(tmp_path / "farm", *TIMINGS) as made:
        for name in ("w1", "w2"):
            start_worker(made, name, "--slots", "1")
        yield made


def beats_of(path: Path) -> list[tuple[str, int, int]]:
    """Worker, process and moment in nanoseconds of each line that a process of the job wrote."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(worker, int(pid), int(at)) for worker, pid, at in whole]


def start(
    client: Client, folder: Path, name: str, lost_after: float = LOST_AFTER_S
) -> tuple[Job[object], Path, Path]:
    beats, gate = folder / f"beats-{name}", folder / f"gate-{name}"
    params = {"beats": str(beats), "gate": str(gate)}
    job = client.run("beat.py", files={"beat.py": BEATING}, params=params, lost_after=lost_after)
    until(lambda: len({pid for _, pid, _ in beats_of(beats)}) == 2, what="both processes beat")
    return job, beats, gate


def check_no_overlap(beats: Path, first: str, second: str) -> None:
    """No process of the first attempt did anything after the second one had begun."""
    last = max(at for worker, _, at in beats_of(beats) if worker == first)
    began = min(at for worker, _, at in beats_of(beats) if worker == second)
    assert last < began, f"the old attempt went on for {(last - began) / 1e9:.3f} s"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "stopped"])
def test_an_attempt_whose_daemon_is_away_ends_before_it_begins_elsewhere(
    two_workers: Farm, tmp_path: Path, number: signal.Signals
) -> None:
    made = two_workers
    with made.client() as client:
        made.until_ready(client)
        for count in range(ABSENCES):
            job, beats, gate = start(client, tmp_path, str(count))
            first = beats_of(beats)[0][0]
            second = "w2" if first == "w1" else "w1"
            daemon = made.workers[first].popen
            daemon.send_signal(number)

            until(
                lambda b=beats, s=second: any(w == s for w, _, _ in beats_of(b)), what="elsewhere"
            )
            left = [p for p in processes_of(made, first) if p.pid != daemon.pid]
            assert [p for p in left if p.is_running() and p.status() != "zombie"] == []
            gate.touch()
            assert job.result(60) == second

            check_no_overlap(beats, first, second)
            if number == signal.SIGKILL:
                daemon.wait()
                start_worker(made, first, "--slots", "1")
            else:
                daemon.send_signal(signal.SIGCONT)
            until(lambda f=first: Farm.here(client).get(f), what="it is back")
            story = cast("list[dict[str, Any]]", job.story())
            assert ends_of(story) == [
                "JobSubmitted",
                "AttemptStarted",
                "AttemptLeft:worker_lost",
                "AttemptStarted",
                "JobFinished",
            ]
    what = "is dead" if number == signal.SIGKILL else "stands still"
    seen = "its attempt ended before the next one began"
    tell("F3", f"worker's daemon {what} for longer than a lease", ABSENCES, seen)


def test_a_daemon_that_is_back_within_the_lease_finds_its_attempt_undisturbed(
    two_workers: Farm, tmp_path: Path
) -> None:
    made = two_workers
    with made.client() as client:
        made.until_ready(client)
        job, beats, gate = start(client, tmp_path, "kept", PATIENT_S)
        first = beats_of(beats)[0][0]
        made.workers[first].kill()
        start_worker(made, first, "--slots", "1")
        until(lambda: Farm.here(client).get(first), what="it is back")
        # The lease of the dead daemon is over by then, that of the new one is not.
        back = beats_of(beats)[-1][2]
        until(lambda: beats_of(beats)[-1][2] - back > 8e9, what="time passes")
        gate.touch()

        assert job.result(60) == first
        story = cast("list[dict[str, Any]]", job.story())

    assert ends_of(story) == ["JobSubmitted", "AttemptStarted", "JobFinished"]
    assert len({pid for _, pid, _ in beats_of(beats)}) == 2, "the same processes"
    steps = [after - before for before, after in pairwise(at for _, _, at in beats_of(beats))]
    assert max(steps) < 5e9, "they never stood still for long"
