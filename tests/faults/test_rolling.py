"""F22 and F25: every daemon is restarted in turn under load; many coordinators want one store."""

import signal
from pathlib import Path

from tests.e2e.farm import Farm, farm, until
from tests.faults.ledger import LedgerClient
from tests.faults.machines import start_worker
from tests.faults.oracles import (
    check_records,
    check_slots,
    finished,
    overlapping,
    read_journal,
    read_records,
)
from tests.faults.scale import rounds, tell
from tests.faults.test_coordinator_kills import specs_of

from lineshaft_coordinator.core.records import AttemptLeft

ROUNDS = rounds(1, 30)
RIVALS = rounds(4, 16)
SLOTS = {"w1": 2, "w2": 2}


def test_a_rolling_restart_under_load_loses_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with farm(tmp_path / "farm") as made:
        for name, slots in SLOTS.items():
            start_worker(made, name, "--slots", str(slots))
        with made.client() as client:
            made.until_ready(client)
            ledger = LedgerClient(made, specs_of(client, journal), in_flight_max=40)
            ledger.start()
            for _ in range(ROUNDS):
                for name, slots in SLOTS.items():
                    until_more(ledger)
                    made.workers[name].popen.send_signal(signal.SIGTERM)
                    # It hands back what has not begun, finishes the rest, and tells all of it.
                    assert made.workers[name].popen.wait(60) == 0
                    start_worker(made, name, "--slots", str(slots))
                    until(lambda n=name: n in Farm.here(client), what=f"{name} is back")
                until_more(ledger)
                assert made.coordinator is not None
                assert made.coordinator.terminate() == 0
                made.start_coordinator()
                until(lambda: len(Farm.here(client)) == len(SLOTS), what="both workers are there")
            ledger.finish(120)
            ledger.ask_again()
        made.coordinator.terminate()
        stories = read_records(tmp_path / "farm" / "data")
    ledger.check()
    check_records(stories)
    ours = {job_id: story for job_id, story in stories.items() if job_id.startswith("job-")}
    assert set(ours) == set(ledger.results)
    assert all(finished(story).outcome.status == "succeeded" for story in ours.values())
    causes = {r.cause for story in ours.values() for r in story if isinstance(r, AttemptLeft)}
    assert "worker_lost" not in causes, "who leaves in order loses nothing"
    runs = read_journal(journal)
    check_slots(runs, SLOTS)
    assert not overlapping(runs)
    assert len(runs) == len(ours) + 1, "no job ran twice"
    seen = f"{len(ours)} jobs, none lost, none run twice"
    tell("F22", "rolling restart of two workers and the coordinator", ROUNDS, seen)


def until_more(ledger: LedgerClient) -> None:
    wanted = len(ledger.results) + 10
    until(lambda: len(ledger.results) >= wanted, what="work goes on")


def test_of_many_coordinators_on_one_store_one_serves(tmp_path: Path) -> None:
    made = Farm(tmp_path)
    data = ("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    try:
        rivals = [
            made.start(
                f"rival-{number}",
                "-m",
                "lineshaft_coordinator",
                *data,
                "--port-file",
                str(tmp_path / f"port-{number}"),
            )
            for number in range(RIVALS)
        ]
        ports = [tmp_path / f"port-{number}" for number in range(RIVALS)]
        until(
            lambda: sum(rival.popen.poll() is not None for rival in rivals) == RIVALS - 1,
            what="all but one have given up",
        )
        until(lambda: any(port.exists() for port in ports), what="one serves")

        (winner,) = [rival for rival in rivals if rival.popen.poll() is None]
        losers = [rival for rival in rivals if rival is not winner]
        assert [port.exists() for port in ports].count(True) == 1
        assert all(loser.popen.poll() == 2 for loser in losers)
        assert all(str(tmp_path / "data") in loser.said() for loser in losers), "it is named"
        assert winner.terminate() == 0
    finally:
        made.close()
    tell(
        "F25",
        "coordinators started at once on one store",
        RIVALS,
        "one served, the others said why",
    )
