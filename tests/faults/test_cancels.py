"""F18, F22: cancelled in any phase or stopped in mid-work, no process is left and no job lost."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.e2e.farm import Farm, select_pause, until
from tests.faults.machines import start_worker
from tests.faults.oracles import (
    check_records,
    check_slots,
    finished,
    overlapping,
    read_journal,
    read_records,
    work,
)
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.blocking_job import Job

CANCELS = rounds(50, 1000)
STOPS = rounds(2, 100)
GRACE_S = 0.2
LATE_S = GRACE_S + 5.0
"""What is promised for 99 of 100. What was measured is printed."""
PHASES = ("queued", "waiting", "backlog", "handed", "running", "ending")

FAMILY = """
import os, signal, sys, time
from lineshaft import run

def escape(depth):
    # A child in a session of its own, whose parent is gone, and that will not be told to end.
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if depth and os.fork() == 0:
            os._exit(0) if os.fork() else None
            while True:
                signal.pause()
        while True:
            signal.pause()

for _ in range(2):
    escape(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(run.params["began"], "w").close()
deadline = time.monotonic() + run.params["seconds"]
while time.monotonic() < deadline:
    signal.sigtimedwait((), 0.01)
run.result("ended by itself")
"""


def processes_marked(mark: str) -> list[int]:
    """All processes with this text in their environment."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def family(client: Client, folder: Path, seconds: float = 600.0, **options: Any) -> Job[object]:
    folder.mkdir()
    params = {"began": str(folder / "began"), "seconds": seconds}
    return client.run("family.py", files={"family.py": FAMILY}, params=params, **options)


def state_of(made: Farm, job_id: str) -> set[Path]:
    """Folders of the runners that were given a job, by the note the daemon keeps of it."""
    return set(made.home.glob(f"workers/*/assigns/{job_id}@*.json"))


def brief(began: str = "", gate: str = "") -> None:
    """Takes no time, so that others are given to its runner behind it; or waits for a gate."""
    if began:
        Path(began).touch()
    while gate and not os.path.exists(gate):
        signal.sigtimedwait((), 0.01)


def cancel_handed(client: Client, folder: Path, dice: random.Random) -> float:
    """Cancel brief work that a runner, or its worker, was given ahead of time."""
    folder.mkdir()
    gate, mark = folder / "gate", folder / "held"
    holder = client.submit(brief, str(mark), str(gate))
    until(mark.exists, what="the lane is held")
    marks = [folder / f"began-{number}" for number in range(8)]
    futures = [client.submit(brief, str(each)) for each in marks]
    # They are handed to the runner, found stuck there, and taken back: at any of these moments.
    for _ in range(dice.randrange(12)):
        select_pause()
    began = time.monotonic()
    for future in futures:
        future.cancel()
    # A future is cancelled at once; its job when nothing of it can begin any more.
    assert all(client.job(f.id).exception(10 * LATE_S) is not None for f in futures)
    took = time.monotonic() - began
    assert not any(each.exists() for each in marks), "what was cancelled never began"
    gate.touch()
    holder.result(60)
    return took


def cancel_in(phase: str, made: Farm, client: Client, folder: Path, dice: random.Random) -> float:
    """Bring a job to its phase, cancel it, see that nothing of it is left; returns the seconds."""
    if phase == "handed":
        return cancel_handed(client, folder, dice)
    before = set(runner_pids(made))
    blocker = None
    if phase == "queued":
        job = family(client, folder, tags=["elsewhere"], queue_timeout=600.0)
    elif phase in ("waiting", "backlog"):
        blocker = family(client, folder.with_name(folder.name + "-first"))
        after = [blocker] if phase == "waiting" else []
        job = family(client, folder, after=after)
        until((folder.with_name(folder.name + "-first") / "began").exists, what="it is blocked")
    else:
        job = family(client, folder, seconds=0.05 if phase == "ending" else 600.0)
        until((folder / "began").exists, what="it runs")
        for _ in range(dice.randrange(12) if phase == "ending" else 2):
            select_pause()
    began = time.monotonic()
    job.cancel()
    assert job.exception(10 * LATE_S) is not None or phase == "ending"
    took = time.monotonic() - began
    if blocker is None:
        # Told means gone: looked at once, without waiting.
        left = set(runner_pids(made)) - before
        working = {pid for pid in left if has_children_beside_runner(pid)}
        assert not working, f"{phase}: processes are left: {working}"
    else:
        assert not (folder / "began").exists(), "it never began"
        blocker.cancel()
        assert blocker.exception(10 * LATE_S) is not None
    return took


def runner_pids(made: Farm) -> list[int]:
    return processes_marked(f"LINESHAFT_SPOOL={made.home}/")


def has_children_beside_runner(pid: int) -> bool:
    """Whether it is one of the family: its script, or what that forked."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    is_zombie = "\nState:\tZ" in status
    return not is_zombie and bool(int(ignored.split()[1], 16) & (1 << (signal.SIGTERM - 1)))


def test_a_job_cancelled_in_any_phase_leaves_no_process(empty_farm: Farm, tmp_path: Path) -> None:
    made, seed = empty_farm, random.randrange(1 << 32)
    print(f"seed {seed}, {CANCELS} cancels")
    dice = random.Random(seed)
    start_worker(made, "w1", "--slots", "1", "--grace", f"{GRACE_S}")
    took: list[float] = []
    with made.client() as client:
        made.until_ready(client)
        for _ in range(20):
            client.submit(brief).result(30)
        for number in range(CANCELS):
            phase = PHASES[number % len(PHASES)]
            took.append(cancel_in(phase, made, client, tmp_path / f"job-{number}", dice))
        assert client.submit(pow, 2, 5).result(60) == 32, "the slot is free again"
    took.sort()
    assert took[int(len(took) * 0.99)] <= LATE_S
    until(
        lambda: not [pid for pid in runner_pids(made) if has_children_beside_runner(pid)],
        what="nothing of any job is left",
    )
    assert made.coordinator is not None
    made.coordinator.terminate()
    check_records(read_records(made.folder / "data"))
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    seen = f"no process left; p50 {p50:.2f} s, p99 {p99:.2f} s with {GRACE_S:g} s of grace"
    tell("F18", f"cancel, in {len(PHASES)} phases", CANCELS, seen)


def test_sigterm_for_all_in_mid_work_loses_nothing(empty_farm: Farm, tmp_path: Path) -> None:
    made, journal = empty_farm, tmp_path / "journal"
    for name in ("w1", "w2"):
        start_worker(made, name, "--slots", "2")
    with made.client() as client:
        made.until_ready(client)
        count = max(100, STOPS * 10)
        futures = [client.submit(work, f"{n}", str(journal), 0.05) for n in range(count)]
        for number in range(STOPS):
            until(lambda n=number: sum(f.done() for f in futures) >= n * 10 + 5, what="it works")
            made.until_ready(client)  # Who has just been started dies of the signal at once.
            is_patient = number % 2 == 0
            ends = stop_all(made, is_patient=is_patient)
            print(f"exit after {', '.join(f'{who} {s:.1f} s' for who, s in ends.items())}")
            if not is_patient:
                made.start_coordinator()
            for name in ("w1", "w2"):
                start_worker(made, name, "--slots", "2")

        assert [future.result(60) for future in futures] == [f"result of {n}" for n in range(count)]
    assert made.coordinator is not None
    made.coordinator.terminate()
    stories = read_records(made.folder / "data")
    check_records(stories)
    assert len(stories) == count
    assert all(finished(story).outcome.status == "succeeded" for story in stories.values())
    runs = read_journal(journal)
    check_slots(runs, {"w1": 2, "w2": 2})
    assert not overlapping(runs)
    tell(
        "F22",
        "SIGTERM for all daemons under load",
        STOPS,
        f"{count} jobs, none lost, none run twice",
    )


def stop_all(made: Farm, *, is_patient: bool) -> dict[str, float]:
    """SIGTERM to everybody at once; returns how long each took, in seconds.

    Workers that have results for the coordinator wait for it, as long as their lease. It comes
    back for them; or whoever has no patience sends a second signal, and what they have is kept.
    """
    began, took = time.monotonic(), {}
    coordinator, workers = made.coordinator, list(made.workers.values())
    assert coordinator is not None
    for process in (coordinator, *workers):
        process.popen.send_signal(signal.SIGTERM)
    assert coordinator.popen.wait(20) == 0
    took["coordinator"] = time.monotonic() - began
    if is_patient:
        made.start_coordinator()
    else:
        for worker in workers:
            worker.popen.send_signal(signal.SIGTERM)
    for worker in workers:
        status = worker.popen.wait(30)
        assert status in ((0,) if is_patient else (0, -signal.SIGTERM)), worker.said()[-2000:]
        took[worker.name] = time.monotonic() - began
    return took
