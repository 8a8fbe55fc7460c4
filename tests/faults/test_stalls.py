"""F7, F9, F12 and F17: processes that stand still, clocks that jump, messages said twice."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

from tests.e2e.farm import Farm, farm, select_pause, until
from tests.e2e.rawclient import RawClient
from tests.faults.machines import ends_of, start_worker
from tests.faults.oracles import check_records, read_journal, read_records, work
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.futures import LineshaftFuture
from lineshaft_protocol.client_messages import Accepted, Finished, Refused, Submit
from lineshaft_protocol.jobs import JobSpec

QUICK = ("heartbeat_s=0.3", "suspect_s=0.8", "silence_s=1.2", "lost_after_brief_s=0.2")
STOPS = rounds(3, 200)
LATE_RESULTS = rounds(2, 100)
SUBMITS = rounds(1000, 10_000)
VOICES = 8


def hold(pids: str, gate: str) -> int:
    """A function: its lease outlasts its `lost_after`, so that only a judge ends it."""
    with open(pids, "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(gate):
        signal.sigtimedwait((), 0.02)
    return os.getpid()


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def pause(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        select_pause()


def test_a_worker_that_stood_still_past_lost_after_never_gets_its_word_in(tmp_path: Path) -> None:
    with farm(tmp_path / "farm", *QUICK) as made:
        names = ("w1", "w2")
        for name in names:
            start_worker(made, name, "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            for number in range(STOPS):
                pids, gate = tmp_path / f"pids-{number}", tmp_path / f"gate-{number}"
                future = client.submit(hold, str(pids), str(gate))
                until(lambda pids=pids: pids_in(pids), what="it runs")
                live = cast("list[dict[str, Any]]", client.jobs(status="live"))[0]
                job, first = client.job(live["job_id"]), live["worker_id"]
                other = next(name for name in names if name != first)
                daemon = made.workers[first].popen
                daemon.send_signal(signal.SIGSTOP)
                until(lambda pids=pids: len(pids_in(pids)) == 2, what="it runs elsewhere")
                # Both go on, one of them without right: it ends, and is reported by who sleeps.
                gate.touch()
                assert future.result(30) == pids_in(pids)[1]
                daemon.send_signal(signal.SIGCONT)
                until(lambda first=first: Farm.here(client).get(first), what="it woke up")
                until(
                    lambda first=first: not Farm.here(client)[first]["jobs"],
                    what="it was told to forget",
                )

                story = cast("list[dict[str, Any]]", job.story())
                assert ends_of(story) == [
                    "JobSubmitted",
                    "AttemptStarted",
                    "AttemptLeft:worker_lost",
                    "AttemptStarted",
                    "JobFinished",
                ]
                assert story[-1]["outcome"]["worker_id"] == other
                assert story[-1]["outcome"]["attempt"] == 2
    tell("F7", "worker stood still past `lost_after`", STOPS, "every late word was refused")


def hold_for_own(pids: str, gates: str) -> int:
    """A function whose attempts are let go one by one; leaves word when it is about to return."""
    with open(pids, "a") as file:
        file.write(f"{os.getpid()}\n")
    own = f"{gates}-{os.environ['FAULTS_WORKER']}"
    while not os.path.exists(own):
        signal.sigtimedwait((), 0.02)
    with open(f"{own}-left", "w"):
        return os.getpid()


def test_a_result_that_a_sleeper_brings_does_not_end_the_attempt_of_another(
    tmp_path: Path,
) -> None:
    with farm(tmp_path / "farm", *QUICK) as made:
        for name in ("w1", "w2"):
            start_worker(made, name, "--slots", "1", "--tags", name)
        with made.client() as client:
            made.until_ready(client)
            for number in range(LATE_RESULTS):
                pids, gates = tmp_path / f"own-pids-{number}", f"{tmp_path}/own-{number}"
                future = client.submit(hold_for_own, str(pids), gates)
                until(lambda pids=pids: pids_in(pids), what="it runs")
                live = cast("list[dict[str, Any]]", client.jobs(status="live"))[0]
                first = live["worker_id"]
                other = "w2" if first == "w1" else "w1"
                daemon = made.workers[first].popen
                daemon.send_signal(signal.SIGSTOP)
                until(lambda pids=pids: len(pids_in(pids)) == 2, what="it runs elsewhere")
                # It ends beside its daemon, which has this to tell when it wakes up.
                Path(f"{gates}-{first}").touch()
                until(Path(f"{gates}-{first}-left").exists, what="the first attempt ends")
                daemon.send_signal(signal.SIGCONT)
                # Its one slot is free, and what it had to tell is told, when this is done.
                client.options(tags=(first,)).submit(os.getpid).result(30)

                assert not future.done(), "the second attempt is still running"
                Path(f"{gates}-{other}").touch()
                assert future.result(30) == pids_in(pids)[1]
                story = cast("list[dict[str, Any]]", client.job(live["job_id"]).story())
                assert story[-1]["outcome"]["worker_id"] == other
                assert story[-1]["outcome"]["attempt"] == 2
    seen = "the second attempt went on, and its result counts"
    tell("F7", "result of a worker that stood still, beside its successor", LATE_RESULTS, seen)


def test_a_coordinator_that_stood_still_judges_nobody_lost(tmp_path: Path) -> None:
    with farm(tmp_path / "farm", *QUICK, "recovery_s=3") as made:
        for name in ("w1", "w2"):
            start_worker(made, name, "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            pids, gate = tmp_path / "pids", tmp_path / "gate"
            long = client.submit(hold, str(pids), str(gate))
            until(lambda: pids_in(pids), what="it runs")
            assert made.coordinator is not None
            # Five times longer than a worker may be silent, thirty times its lost_after.
            made.coordinator.popen.send_signal(signal.SIGSTOP)
            pause(6.0)
            made.coordinator.popen.send_signal(signal.SIGCONT)
            until(lambda: len(Farm.here(client)) == 2, what="both workers are there")
            # Whoever judges too early has done so by now: a fresh window has passed.
            pause(2.0)
            gate.touch()

            assert [long.result(30)] == pids_in(pids), "the same process"
            job_id = cast("list[dict[str, Any]]", client.jobs())[0]["job_id"]
            story = cast("list[dict[str, Any]]", client.job(job_id).story())
            assert ends_of(story) == ["JobSubmitted", "AttemptStarted", "JobFinished"]
    tell("F9", "coordinator stood still for 6 s", 1, "nobody was judged lost")


CLOCK = """
import os, sys, time
from pathlib import Path

shift, real = Path(sys.argv[1]), time.time
time.time = lambda: real() + float(shift.read_text() or 0)
from lineshaft_{who}.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_wall_clock_that_jumps_changes_neither_leases_nor_order(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    shift = tmp_path / "shift"
    shift.write_text("0")
    with farm(tmp_path / "farm", *QUICK) as made:
        assert made.coordinator is not None
        made.coordinator.kill()
        script = tmp_path / "clock.py"
        script.write_text(CLOCK.format(who="coordinator"))
        command = [str(script), str(shift), "--listen", f"127.0.0.1:{made.port}"]
        command += ["--data", str(made.folder / "data")]
        for timing in QUICK:
            command += ["--set", timing]
        coordinator = made.start("coordinator", *command)
        script = tmp_path / "clock-worker.py"
        script.write_text(CLOCK.format(who="worker"))
        worker = made.start(
            "w1", str(script), str(shift), "--name", "w1", "--slots", "1", "--grace", "3"
        )
        made.workers["w1"] = worker
        with made.client() as client:
            made.until_ready(client)
            futures: list[LineshaftFuture[str]] = []

            def left() -> int:
                return sum(not future.done() for future in futures)

            for jump in (0, 86_400, -86_400, 4_000_000_000 - int(time.time()), 1):
                whole = shift.with_suffix(".new")
                whole.write_text(str(jump))
                whole.replace(shift)
                futures += [
                    client.submit(work, f"{len(futures)}", str(journal), 0.02) for _ in range(10)
                ]
                # Some of each batch are done before the next jump, and some are not.
                until(lambda: left() <= 5, what="work")

            assert len([future.result(30) for future in futures]) == 50
            silent = Farm.here(client)["w1"]["silent_s"]
            assert 0 <= silent < 2, "silence is measured on a clock that does not jump"
        assert coordinator.terminate() == 0
        stories = read_records(made.folder / "data")
    check_records(stories)
    kinds = Counter(type(record).__name__ for story in stories.values() for record in story)
    assert kinds["AttemptLeft"] <= 10, "nobody was judged lost"
    runs = read_journal(journal)
    assert len(runs) == 50, "each ran once"
    tell("F12", "jump of the wall clock, to 2096 at most", 4, "no lease ended, each job ran once")


def test_one_job_submitted_a_thousand_times_at_once_is_one_job(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made, journal = empty_farm, tmp_path / "journal"
    start_worker(made, "w1", "--slots", "2")
    with made.client() as client:
        made.until_ready(client)
        spec = spec_of(client, journal)
    answers: list[tuple[int, int, set[str]]] = []
    barrier = threading.Barrier(VOICES)

    def shout() -> None:
        with RawClient(made) as raw:
            barrier.wait(30)
            share = SUBMITS // VOICES
            raw.say(*(Submit(job=spec) for _ in range(share)))
            accepted = [raw.hear(Accepted, Refused) for _ in range(share)]
            told = raw.outcome()
            count = sum(isinstance(answer, Accepted) for answer in accepted)
            answers.append((share, count, {told.outcome.model_dump_json()}))

    threads = [threading.Thread(target=shout, daemon=True) for _ in range(VOICES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(answers) == VOICES, "every client was told"
    assert all(count == share for share, count, _ in answers), "every submit was accepted"
    assert len(set().union(*(told for _, _, told in answers))) == 1, "all were told the same"
    with RawClient(made) as raw:
        other = spec.model_copy(update={"priority": 7})
        raw.say(Submit(job=other))
        refused = raw.hear(Refused, Accepted, Finished)
        assert isinstance(refused, Refused)
        assert refused.code == "duplicate_id", "the same id is not another job's"
    runs = read_journal(journal)
    assert [run.job for run in runs] == ["warm", "one"], "it ran once"
    assert made.coordinator is not None
    made.coordinator.terminate()
    check_records(read_records(made.folder / "data"))
    tell("F17", f"submit of one job by {VOICES} clients", SUBMITS, "one job, one run, all told")


def spec_of(client: Client, journal: Path) -> JobSpec:
    client.submit(work, "warm", str(journal), 0.0).result(30)
    prepared = client._work.call(work, ("one", str(journal), 0.3), {})
    return prepared.spec.model_copy(update={"job_id": "one"})
