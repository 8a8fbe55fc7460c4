"""Two thousand storms, each of them another one, or as many as a minute allows."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import Report, run
from tests.simulation.seeds import replay_command, simulate_for

SEEDS = range(2000)
SEEDS_MIN = 500
"""Below that rare things may not happen; a slow machine takes its time for them."""
WITHIN_S = 60.0
MUTANT_SEEDS_MAX = 60

RARE = (
    "adoption",
    "array_at_its_limit",
    "line_at_its_limit",
    "backlog",
    "blob_failed",
    "cancel_while_leased",
    "cancel_while_waiting",
    "child_asked",
    "client_crash",
    "close: this worker has registered on a newer connection",
    "close: replaced by a newer connection of this worker",
    "close: silent",
    "coordinator_crash: after the commit",
    "coordinator_crash: before the commit",
    "coordinator_crash: between sends",
    "coordinator_crash: the disk is full",
    "daemon_crash",
    "device_fault",
    "drain",
    "events_heard",
    "failed: blob_missing",
    "failed: dependency",
    "failed: queue_timeout",
    "failed: result",
    "failed: signal",
    "failed: worker_lost",
    "fenced_ended",
    "file_kept",
    "built_while_placed",
    "environment_pruned",
    "placed",
    "prepared_and_sent_back",
    "goes_on_from_checkpoint",
    "gpu_keeps_memory",
    "gpu_shared",
    "graceful_stop",
    "half_open",
    "lane_lost",
    "late_tick",
    "lease_ended_by_shim",
    "lease_ended_by_worker",
    "lease_expired: function",
    "lease_expired: pipeline",
    "lease_expired: plan",
    "leave",
    "left by its user",
    "left: failed",
    "left: not_delivered",
    "left: paused",
    "left: preempted",
    "left: returned",
    "left: worker_lost",
    "lookup",
    "operator_drain",
    "partition",
    "pause: preempted, checkpoint",
    "pause: user, checkpoint",
    "pause: user, freeze",
    "pause_withdrawn",
    "power_loss",
    "quarantine",
    "recall",
    "refused: draining",
    "refused: unknown_job",
    "refused: unplaceable",
    "replay",
    "reserved",
    "reset",
    "result_refused",
    "resumed",
    "revoked",
    "room_made",
    "runner_died_early",
    "save_failed",
    "stop_ignored",
    "stop_sent",
    "told_unreadable",
    "unreadable",
    "vanished",
    "worker_gone",
    "worker_stall",
)


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    processes = os.cpu_count() or 1
    found = simulate_for(SEEDS, at_least=SEEDS_MIN, within_s=WITHIN_S, processes=processes)
    print(f"{len(found)} seeds")
    return found


def test_every_storm_ends_well(reports: list[Report]) -> None:
    failed = [report for report in reports if report.error is not None]

    told = [
        "\n".join([*report.story, str(report.error), f"replay: {replay_command(report.seed)}"])
        for report in failed[:3]
    ]
    assert not failed, "\n\n".join([f"{len(failed)} of {len(reports)} seeds fail", *told])


@pytest.mark.parametrize("name", RARE)
def test_rare_things_happen(reports: list[Report], name: str) -> None:
    marks: Counter[str] = Counter()
    for report in reports:
        marks.update(report.marks)

    assert marks[name] > 0


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    code = (
        "from tests.simulation.run import run\nfor seed in (3, 7, 11): print(run(seed).fingerprint)"
    )

    stories = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for hash_seed in ("1", "4242")
    ]

    assert stories[0] == stories[1]
    assert stories[0] == [run(seed).fingerprint for seed in (3, 7, 11)]
    assert len(set(stories[0])) == 3


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    mutant = MUTANTS[name]

    with planted(mutant):
        seeds = range(mutant.seed, mutant.seed + MUTANT_SEEDS_MAX)
        caught = next((seed for seed in seeds if run(seed, story=0).error is not None), None)

    assert caught is not None, f"no seed from {mutant.seed} on notices that {name}"
