"""Seed 001's live feed: `/ws/training/{job_id}`, on a real coordinator with a real worker."""

import time
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest
from tests.e2e.farm import until
from tests.integration.finetune.training_bench import Town, is_complete, messages, read
from websockets.exceptions import ConnectionClosed, InvalidStatus

PROGRESS = {
    "job_id": str, "status": str, "progress": float, "current_epoch": int, "total_epochs": int,
    "current_step": int, "total_steps": int, "loss": float, "eval_loss": float,
    "samples_per_second": float, "gpu_memory_allocated_gb": float,
    "gpu_utilization_percent": float, "eta_seconds": float, "timestamp": str, "complete": bool,
}  # fmt: skip


def test_s001_01_an_unknown_job_is_refused_before_the_upgrade(shared: Town) -> None:
    with pytest.raises(InvalidStatus) as caught:
        shared.socket("nobody")

    assert caught.value.response.status_code == 403


def test_s001_01_a_token_is_needed(shared: Town) -> None:
    job_id = shared.execute()

    with pytest.raises(InvalidStatus) as caught:
        shared.socket(job_id, token="wrong")

    assert caught.value.response.status_code == 401


def test_s001_02_a_greeting_comes_at_once_and_then_progress_each_second(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=4, wait_at=2, gate=str(gate))
    shared.until_step(job_id, 2)
    asked_at = time.monotonic()

    with shared.socket(job_id) as viewer:
        greeting = read(viewer.recv(10))
        greeted_s = time.monotonic() - asked_at
        first = read(viewer.recv(10))
        told_s = time.monotonic() - asked_at
        since, count = time.monotonic(), 0
        while time.monotonic() - since < 10:
            try:
                assert read(viewer.recv(since + 10 - time.monotonic()))["complete"] is False
                count += 1
            except TimeoutError:
                break
    gate.touch()

    assert set(greeting) == {"job_id", "status", "message", "timestamp"}
    assert (greeting["job_id"], greeting["status"]) == (job_id, "running")
    assert greeted_s < 2  # Ten times the promise.
    assert told_s < 2
    assert first["complete"] is False
    assert 8 <= count <= 11


def test_s001_03_every_field_is_there_with_its_type(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=4, wait_at=3, gate=str(gate))
    shared.until_step(job_id, 3)

    with shared.socket(job_id) as viewer:
        (*_, told) = messages(viewer, until_message=lambda m: m.get("current_step") == 3)
        gate.touch()
        (*_, last) = messages(viewer, until_message=is_complete)

    assert {name: type(value) for name, value in told.items()} == PROGRESS
    assert told["progress"] == 75
    assert told["loss"] == pytest.approx(1 / 3)
    assert (told["eval_loss"], told["gpu_utilization_percent"]) == (1.0, 50.0)
    assert told["gpu_memory_allocated_gb"] == 2.0
    assert told["timestamp"].endswith("Z")
    assert last["status"] == "completed"


def test_s001_05_viewers_get_the_same_and_do_not_hear_of_one_another(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=4, wait_at=2, gate=str(gate))
    shared.until_step(job_id, 2)
    with ExitStack() as stack:
        viewers = [stack.enter_context(shared.socket(job_id)) for _ in range(3)]
        for viewer in viewers:
            read(viewer.recv(10))

        viewers[0].close()
        gate.touch()
        heard = [messages(viewer, until_message=is_complete) for viewer in viewers[1:]]

    # From the first message to both on: what was told one alone is the state when it came.
    assert heard[0][-1] == heard[1][-1]
    both = [each[1:] for each in heard]
    length = min(map(len, both))
    assert both[0][-length + 1 :] == both[1][-length + 1 :]


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
def test_s001_07_the_last_message_has_the_true_status(shared: Town, ending: str) -> None:
    gate = shared.gate()
    fail = {"fail": "it broke"} if ending == "failed" else {}
    job_id = shared.execute(steps=2, wait_at=1, gate=str(gate), **fail)
    with shared.socket(job_id) as viewer:
        messages(viewer, until_message=lambda m: m.get("current_step") == 1)
        if ending == "cancelled":
            shared.ask("POST", f"/api/training/cancel/{job_id}")
        else:
            gate.touch()
        heard = messages(viewer, until_message=is_complete)
        with pytest.raises(ConnectionClosed):
            viewer.recv(10)

    assert heard[-1]["status"] == ending
    assert set(heard[-1]) == {
        "job_id", "status", "progress", "final_loss", "eval_loss", "complete", "completed_at",
        "error", "timestamp",
    }  # fmt: skip
    assert (heard[-1]["error"] is not None) == (ending == "failed")
    assert sum(map(is_complete, heard)) == 1
    # Who comes afterwards is told the same.
    with shared.socket(job_id) as viewer:
        again = messages(viewer, until_message=is_complete)
    assert [m.get("complete") for m in again] == [None, True]
    assert again[-1] | {"timestamp": ""} == heard[-1] | {"timestamp": ""}


def test_s001_08_a_pause_is_no_end(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=4, wait_at=2, gate=str(gate))
    heard: list[dict[str, Any]] = []
    with shared.socket(job_id) as viewer:
        heard += messages(viewer, until_message=lambda m: m.get("current_step") == 2)
        shared.ask("POST", f"/api/training/pause/{job_id}")
        heard += messages(viewer, until_message=lambda m: m["status"] == "paused")
        gate.touch()
        shared.ask("POST", f"/api/training/resume/{job_id}")
        heard += messages(viewer, until_message=is_complete)

    seen = [m["status"] for m in heard]
    order = [s for place, s in enumerate(seen) if place == 0 or seen[place - 1] != s]
    kept = [s for s in order if s != "pending"]
    assert kept[kept.index("running") :] == ["running", "paused", "queued", "running", "completed"]
    assert [m.get("complete") for m in heard].count(True) == 1


def test_s001_09_viewers_do_not_change_what_is_kept(shared: Town) -> None:
    def histories(viewers: int) -> list[list[dict[str, Any]]]:
        """What the store has, and what the file says."""
        gate = shared.gate()
        job_id = shared.execute(steps=6, wait_at=1, gate=str(gate), checkpoints=[3])
        file = shared.files / "logs" / f"job_{job_id}" / "progress.json"
        with ExitStack() as stack:
            for _ in range(viewers):
                read(stack.enter_context(shared.socket(job_id)).recv(30))
            gate.touch()
            shared.until_status(job_id, "completed")
            until(lambda: file.exists() and read(file.read_text())["status"] == "completed")
        stored = shared.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]
        told = read(file.read_text())["metrics_history"]
        return [[point | {"timestamp": ""} for point in points] for points in (stored, told)]

    without, with_viewers = histories(0), histories(20)

    assert without == with_viewers
    assert all(len(points) >= 6 for points in without)


def test_s001_10_what_is_logged_is_seen_soon(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=3, wait_at=2, gate=str(gate))
    shared.until_step(job_id, 2)

    with shared.socket(job_id) as viewer:
        read(viewer.recv(10))
        read(viewer.recv(10))
        read(viewer.recv(10))  # A second has passed since there was news.
        gate.touch()
        told = messages(
            viewer, until_message=lambda m: m.get("current_step") == 3 or is_complete(m)
        )
        points = shared.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]

    logged_at = next(p["timestamp"] for p in points if p["step"] == 3)
    # Both clocks are this machine's; ten times 250 ms.
    assert _seconds(told[-1]["timestamp"]) - _seconds(logged_at) < 2.5


def test_s001_13_nan_and_infinity_are_null(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(steps=2, wait_at=2, gate=str(gate), odd=True)
    with shared.socket(job_id) as viewer:
        gate.touch()
        heard = messages(viewer, until_message=is_complete)
    response = shared.response("GET", f"/api/training/metrics/{job_id}")
    status = shared.response("GET", f"/api/training/status/{job_id}")
    progress = (shared.files / "logs" / f"job_{job_id}" / "progress.json").read_text()

    assert heard[-1]["final_loss"] is None
    assert read(status.text)["loss"] is None
    assert [p["train_loss"] for p in read(response.text)["metrics"]] == [1.0, None]
    assert read(progress)["grad_norm"] is None


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
