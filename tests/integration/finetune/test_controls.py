"""Seed 001's controls: what is done to a training, in every state it may be in."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.farm import until
from tests.integration.finetune.training_bench import Town, is_complete, messages, town


@pytest.fixture
def single(tmp_path: Path) -> Any:
    """A training server that runs one training at a time."""
    with town(tmp_path / "town") as made:
        yield made


def test_s001_24_one_at_a_time_and_the_first_first(single: Town) -> None:
    gates = [single.gate() for _ in range(3)]
    jobs = [single.execute(steps=2, wait_at=1, gate=str(gate)) for gate in gates]
    single.until_step(jobs[0], 1)

    queue = single.ask("GET", "/api/training/queue")

    assert (queue["running_count"], queue["queued_count"], queue["queue_active"]) == (1, 2, True)
    (running,) = queue["running_jobs"]
    assert running == {
        "job_id": jobs[0], "name": "a training", "progress": 50, "current_epoch": 1,
        "total_epochs": 2,
    }  # fmt: skip
    assert [(j["job_id"], j["position"], j["status"]) for j in queue["queued_jobs"]] == [
        (jobs[1], 1, "queued"),
        (jobs[2], 2, "queued"),
    ]
    gates[0].touch()
    single.until_step(jobs[1], 1)
    assert single.status(jobs[2])["status"] == "queued"
    single.ask("POST", f"/api/training/cancel/{jobs[1]}")
    gates[2].touch()
    single.until_status(jobs[2], "completed")


def test_s001_25_only_what_runs_can_be_paused(single: Town) -> None:
    gate = single.gate()
    running = single.execute(steps=2, wait_at=1, gate=str(gate))
    waiting = single.execute(steps=1)
    single.until_step(running, 1)

    refused = single.ask("POST", f"/api/training/pause/{waiting}", status=400)
    paused = single.ask("POST", f"/api/training/pause/{running}")
    again = single.ask("POST", f"/api/training/pause/{running}", status=400)
    unknown = single.ask("POST", "/api/training/pause/nobody", status=404)

    assert "queued" in refused["detail"]
    assert (paused["success"], paused["previous_status"]) == (True, "running")
    assert paused["paused_at"].endswith("Z")
    assert "paused" in again["detail"]
    assert "not found" in unknown["detail"]
    single.until_status(waiting, "completed")  # It has the place now.


def test_s001_26_pause_keeps_the_job_paused(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=6, wait_at=3, gate=str(gate))
    shared.until_step(job_id, 3)

    paused = shared.ask("POST", f"/api/training/pause/{job_id}")
    status = shared.until_status(job_id, "paused")
    # Upstream's turned failed within two seconds.
    ends_at = time.monotonic() + 3
    until(lambda: time.monotonic() > ends_at)
    later = shared.status(job_id)
    gate.touch()
    shared.ask("POST", f"/api/training/resume/{job_id}")
    shared.until_status(job_id, "completed")

    assert paused["step"] == 3
    assert status["error_message"] is None
    assert later["status"] == "paused"
    assert [line for line in shared.log(job_id) if "begins" in line] == [
        "begins at step 1",
        "begins at step 4",
    ]
    points = shared.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]
    assert [point["step"] for point in points if point["step"]] == [1, 2, 3, 4, 5, 6]


def test_s001_27_resume_takes_the_checkpoint_that_is_named(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=6, wait_at=5, gate=str(gate), checkpoints=[2, 4])
    shared.until_step(job_id, 5)
    not_paused = shared.ask("POST", f"/api/training/resume/{job_id}", status=400)
    shared.ask("POST", f"/api/training/pause/{job_id}")
    listed = shared.ask("GET", f"/api/training/checkpoints/{job_id}")["checkpoints"]
    paths = {each["step"]: each["path"] for each in listed}
    gate.touch()

    wrong = shared.ask(
        "POST", f"/api/training/resume/{job_id}?checkpoint_path=checkpoint-9", status=400
    )
    resumed = shared.ask(
        "POST", f"/api/training/resume/{job_id}", params={"checkpoint_path": paths[2]}
    )
    done = shared.until_status(job_id, "completed")

    assert "not paused" in not_paused["detail"]
    assert "checkpoint-epoch-1-step-2" in wrong["detail"]
    assert resumed["checkpoint_path"] == paths[2]
    assert (resumed["previous_status"], resumed["success"]) == ("paused", True)
    assert done["resume_from_checkpoint"] == "checkpoint-epoch-1-step-2"
    # The log goes on; of steps that were done again the later ones count.
    assert [line for line in shared.log(job_id) if "begins" in line] == [
        "begins at step 1",
        "begins at step 3",
    ]
    points = shared.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]
    assert [point["step"] for point in points if point["step"]] == [1, 2, 3, 4, 5, 6]


def test_s001_27_a_paused_job_outlives_the_coordinator(single: Town) -> None:
    gate = single.gate()
    job_id = single.execute(steps=4, wait_at=2, gate=str(gate))
    single.until_step(job_id, 2)
    single.ask("POST", f"/api/training/pause/{job_id}")
    assert single.farm.coordinator is not None
    single.farm.coordinator.kill()

    single.farm.start_coordinator()
    status = single.status(job_id)
    gate.touch()
    single.ask("POST", f"/api/training/resume/{job_id}")
    single.until_status(job_id, "completed")

    assert (status["status"], status["current_step"]) == ("paused", 2)
    assert status["batch_size"] == 4
    assert [line for line in single.log(job_id) if "begins" in line] == [
        "begins at step 1",
        "begins at step 3",
    ]


def test_s001_28_cancel_in_every_state_ends_cancelled(single: Town) -> None:
    gate = single.gate()
    running = single.execute(steps=2, wait_at=1, gate=str(gate), child=True)
    queued = single.execute(steps=1)
    single.until_step(running, 1)
    (line,) = [line for line in single.log(running) if line.startswith("child")]
    child = psutil.Process(int(line.split()[1]))

    first = single.ask("POST", f"/api/training/cancel/{queued}")
    second = single.ask("POST", f"/api/training/cancel/{running}")
    paused = single.execute(steps=2, wait_at=1, gate=str(gate))
    single.until_step(paused, 1)
    single.ask("POST", f"/api/training/pause/{paused}")
    third = single.ask("POST", f"/api/training/cancel/{paused}")
    again = single.ask("POST", f"/api/training/cancel/{paused}", status=400)

    assert [each["previous_status"] for each in (first, second, third)] == [
        "queued",
        "running",
        "paused",
    ]
    for job_id in (queued, running, paused):
        assert single.status(job_id)["status"] == "cancelled"
        assert single.status(job_id)["error_message"] is None
    assert "cancelled already" in again["detail"]
    assert not child.is_running()


def test_s001_28_others_are_answered_while_a_cancel_takes_its_time(single: Town) -> None:
    job_id = single.execute(steps=1000, step_seconds=0.05, child=True)
    single.until_step(job_id, 1)
    worker = single.farm.workers["w1"]
    os.kill(worker.pid, signal.SIGSTOP)  # Nobody ends anything for a while.
    cancel = threading.Thread(
        target=single.response, args=("POST", f"/api/training/cancel/{job_id}")
    )
    cancel.start()
    took_s: list[float] = []

    def is_cancelling() -> bool:
        # The first to ask may be there before the cancel is, the second while it is begun.
        asked_at = time.monotonic()
        health = single.response("GET", "/health", headers={"Accept": "application/json"})
        status = single.ask("GET", f"/api/v1/jobs/{job_id}")["status"]
        took_s.append(time.monotonic() - asked_at)
        assert health.json()["status"] == "healthy"
        return "cancel" in str(status)

    try:
        until(is_cancelling)
        for _ in range(5):
            assert is_cancelling()
        assert cancel.is_alive()
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    cancel.join(30)

    assert max(took_s) < 2  # Ten times the promise, for each of two answers.
    assert single.until_status(job_id, "cancelled")


def test_s001_30_force_start_puts_a_job_first_or_does_it_again(single: Town) -> None:
    gate = single.gate()
    running = single.execute(steps=2, wait_at=1, gate=str(gate))
    jobs = [single.execute(steps=1) for _ in range(2)]
    single.until_step(running, 1)

    forced = single.ask("POST", f"/api/training/{jobs[1]}/force-start")
    queue = single.ask("GET", "/api/training/queue")["queued_jobs"]
    refused = single.ask("POST", f"/api/training/{running}/force-start", status=400)
    single.ask("POST", f"/api/training/cancel/{jobs[0]}")
    again = single.ask("POST", f"/api/training/{jobs[0]}/force-start")
    gate.touch()
    single.until_status(again["job_id"], "completed")

    assert (forced["job_id"], forced["previous_status"]) == (jobs[1], "queued")
    assert [each["job_id"] for each in queue] == [jobs[1], jobs[0]]
    assert "running" in refused["detail"]
    assert again["job_id"] != jobs[0]
    assert again["original_job_id"] == jobs[0]
    assert single.status(jobs[0])["status"] == "cancelled"


def test_s001_30_a_training_outlives_coordinator_and_worker_daemon(single: Town) -> None:
    gate = single.gate()
    job_id = single.execute(steps=40, wait_at=20, gate=str(gate), step_seconds=0.02)
    single.until_step(job_id, 5)
    assert single.farm.coordinator is not None
    single.farm.coordinator.kill()
    single.farm.workers["w1"].kill()
    single.farm.start_coordinator()
    single.farm.start_worker("w1", "--slots", "2")
    single.until_step(job_id, 20)

    counts = single.ask("POST", "/api/training/reconnect")
    with single.socket(job_id) as viewer:
        gate.touch()
        heard = messages(viewer, until_message=is_complete)

    assert heard[-1]["status"] == "completed"
    assert counts["success"] is True
    assert (counts["jobs_before"], counts["jobs_after"], counts["reconnected"]) == (1, 1, 0)
    assert (counts["running_before"], counts["running_after"]) == (1, 1)
    points = single.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]
    assert [point["step"] for point in points if point["step"]] == list(range(1, 41))
    assert [line for line in single.log(job_id) if "begins" in line] == ["begins at step 1"]


def test_s001_31_a_silent_training_fails_and_its_process_ends(tmp_path: Path) -> None:
    with town(tmp_path / "town", timeout_minutes=0.05) as quick:
        job_id = quick.execute(steps=2, wait_at=1, gate=str(quick.gate()), child=True)
        quick.until_step(job_id, 1)
        (line,) = [line for line in quick.log(job_id) if line.startswith("child")]

        status = quick.until_status(job_id, "failed")

        assert status["error_message"] == (
            "Training timed out - no progress updates for 0.05 minutes"
        )
        assert not psutil.pid_exists(int(line.split()[1]))


def test_s001_38_what_is_said_while_the_coordinator_is_away_comes_later_once(
    single: Town,
) -> None:
    gate = single.gate()
    job_id = single.execute(steps=30, wait_at=3, gate=str(gate))
    single.until_step(job_id, 3)
    assert single.farm.coordinator is not None
    single.farm.coordinator.kill()
    gate.touch()  # All the rest is said, and the training ends, with nobody there.
    until(lambda: not _trainers(single), what="the trainer ended")

    single.farm.start_coordinator()
    single.until_status(job_id, "completed")

    points = single.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]
    assert [point["step"] for point in points if point["step"]] == list(range(1, 31))


def _trainers(place: Town) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in place.farm.stray():
        try:
            if "JOB_ID" in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
