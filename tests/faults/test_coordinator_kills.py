"""F1: the coordinator is killed at random instants while jobs are submitted, run and told of."""

import random
from pathlib import Path

from tests.e2e.farm import Farm, farm, select_pause, until
from tests.faults.ledger import LedgerClient, MakeSpec
from tests.faults.oracles import (
    WORKER_VARIABLE,
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
from lineshaft_protocol.jobs import JobSpec

KILLS = rounds(50, 1000)
SLOTS = {"w1": 2, "w2": 2}


def specs_of(client: Client, journal: Path, seconds: float = 0.01) -> MakeSpec:
    """Jobs that keep the journal; the function's code is uploaded by the first one."""
    client.submit(work, "warm", str(journal), 0.0).result(30)

    def make(number: int) -> JobSpec:
        job_id = f"job-{number}"
        prepared = client._work.call(work, (job_id, str(journal), seconds), {})
        return prepared.spec.model_copy(update={"job_id": job_id})

    return make


def kill_at_random(made: Farm, dice: random.Random, ledger: LedgerClient) -> int:
    """Kill the coordinator a little later and start it again; returns how much was under way."""
    before = len(ledger.results)
    wanted = dice.choice((0, 0, 0, 1, 10))
    until(lambda: len(ledger.results) >= before + wanted, what="work goes on between kills")
    for _ in range(dice.randrange(40)):
        select_pause()
    assert made.coordinator is not None
    made.coordinator.kill()
    under_way = len(ledger.open)
    made.start_coordinator()
    return under_way


def test_no_accepted_job_is_lost_or_told_twice_when_the_coordinator_is_killed(
    tmp_path: Path,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, {KILLS} kills")
    dice = random.Random(seed)
    journal = tmp_path / "journal"
    with farm(tmp_path / "farm") as made:
        for name, slots in SLOTS.items():
            made.start_worker(name, "--slots", str(slots), environ={WORKER_VARIABLE: name})
        with made.client() as client:
            made.until_ready(client)
            ledger = LedgerClient(made, specs_of(client, journal), in_flight_max=40)
            ledger.start()

            under_way = [kill_at_random(made, dice, ledger) for _ in range(KILLS)]

            ledger.finish(120)
            ledger.ask_again()
            assert made.coordinator is not None
            made.coordinator.terminate()
        stories = read_records(tmp_path / "farm" / "data")

    # A run without faults in mid-work proves nothing.
    assert sum(count > 0 for count in under_way) == KILLS
    assert ledger.sessions > KILLS // 2, "the client noticed"
    # The client's ledger against the coordinator's records: nothing lost, nothing added.
    ledger.check()
    ours = {job_id: story for job_id, story in stories.items() if job_id.startswith("job-")}
    assert set(ours) == set(ledger.results)
    check_records(stories)
    assert all(finished(story).outcome.status == "succeeded" for story in ours.values())
    # What the jobs saw themselves.
    runs = read_journal(journal)
    check_slots(runs, SLOTS)
    whole = {run.job for run in runs if run.ended_ns is not None}
    assert set(ours) <= whole, "a result without a run"
    assert not overlapping(runs), "no worker was lost, so none ran beside itself"
    assert len(runs) == len(ours) + 1, "a coordinator's death makes no job run again"
    seen = f"{len(ours)} jobs, {ledger.sessions} sessions: 0 lost, 0 told twice, 0 run twice"
    tell("F1", "kill -9 of the coordinator under load", KILLS, seen)
