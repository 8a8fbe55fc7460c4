"""Seed 001's files, which its tools read where there is no live feed, and its alerts."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import until
from tests.integration.finetune.training_bench import Town, read, town


def test_s001_11_the_files_are_where_they_were(shared: Town) -> None:
    gate = shared.gate()
    job_id = shared.execute(
        steps=4, checkpoints=[2], wait_at=3, gate=str(gate), dataset_content='{"text": "one"}\n'
    )
    shared.until_step(job_id, 3)
    logs = shared.files / "logs"
    progress = logs / f"job_{job_id}" / "progress.json"

    def is_written() -> bool:
        return progress.exists() and read(progress.read_text())["current_step"] == 3

    until(is_written, what="progress.json is a second behind at most")
    running = read(progress.read_text())
    until((logs / f"job_{job_id}.log").exists)
    gate.touch()
    shared.until_status(job_id, "completed")
    until(lambda: read(progress.read_text())["status"] == "completed")

    assert (running["status"], running["progress_percent"]) == ("running", 75)
    assert [point["step"] for point in running["metrics_history"]] == [1, 2, 3]
    assert (logs / f"job_{job_id}.log").read_text().startswith("begins at step 1\n")
    assert (logs / f"job_{job_id}" / "checkpoint-epoch-1-step-2" / "weights.bin").is_file()
    dataset = logs / "datasets" / f"job_{job_id}" / "train_dataset.jsonl"
    assert dataset.read_text() == '{"text": "one"}\n'
    assert json.loads((shared.files / "configs" / f"job_{job_id}.json").read_text())


def test_s001_11_the_environment_says_what_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "PROGRESS_FILENAME": "state.json",
        "LOGS_DIR_NAME": "journals",
        "CONFIG_DIR_NAME": "settings",
        "TRAINING_LOG_FILENAME": "output.txt",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)

    with town(tmp_path / "town") as place:
        job_id = place.execute(steps=1)
        place.until_status(job_id, "completed")
        progress = place.files / "journals" / f"job_{job_id}" / "state.json"
        until(progress.exists)
        archive = place.response("GET", f"/api/training/{job_id}/download/logs").content

        assert (place.files / "settings" / f"job_{job_id}.json").is_file()
        assert b"output.txt" in archive
        assert b"state.json" in archive


def test_a_log_that_lost_its_end_is_made_again(tmp_path: Path) -> None:
    with town(tmp_path / "town") as place:
        job_id = place.execute(steps=1)
        place.until_status(job_id, "completed")
        log = place.files / "logs" / f"job_{job_id}.log"
        fold = place.files / "logs" / f"job_{job_id}" / ".fold.json"
        until(lambda: fold.exists() and log.exists() and log.read_text())
        whole = log.read_text()
        assert place.farm.coordinator is not None
        place.farm.coordinator.kill()
        log.write_text(whole[:3])

        place.farm.start_coordinator()

        until(lambda: log.read_text() == whole, what="the log is whole again")
        assert place.log(job_id) == whole.splitlines()


def test_a_model_that_the_object_store_does_not_give_now_is_a_503(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    flags = ("--blob-store", f"file://{store}")
    with town(tmp_path / "town", *flags) as place:
        job_id = place.execute(steps=1, weights=300_000)
        place.until_status(job_id, "completed")
        path = f"/api/training/{job_id}/download/model"
        until(lambda: list(store.glob("??/*")), what="the model lies in the store")
        assert place.farm.coordinator is not None
        place.farm.coordinator.terminate()
        for copy in (place.farm.folder / "data" / "blobs").glob("??/*"):
            if copy.stat().st_size > 1 << 20:
                copy.unlink()
        store.rename(store.with_name("away"))

        place.farm.start_coordinator(*flags)
        away = place.response("GET", path)
        told = until(lambda: (said := place.response("GET", "/readyz")).text != "ok\n" and said)
        info = place.ask("GET", "/api/v1/info")["object_store"]
        numbers = place.response("GET", "/metrics").text
        store.with_name("away").rename(store)
        back = until(lambda: (found := place.response("GET", path)).status_code == 200 and found)

        assert away.status_code == 503
        assert "try again later" in away.json()["detail"]
        assert len(back.content) > 2_000_000
        assert (told.status_code, told.text[:24]) == (200, "ok\nthe object store cann")
        assert "no folder" in info["problem"]
        assert "lineshaft_object_store_up 0\n" in numbers
        until(lambda: place.response("GET", "/readyz").text == "ok\n", what="it is noticed")


def test_files_go_with_the_history(tmp_path: Path) -> None:
    with town(tmp_path / "town") as place:
        job_id = place.execute(steps=1, dataset_content="{}")
        place.until_status(job_id, "completed")
        files = place.files
        until((files / "logs" / f"job_{job_id}" / ".fold.json").exists)
        other = files / "logs" / "job_left.behind"
        other.mkdir()
        assert place.farm.coordinator is not None
        place.farm.coordinator.terminate()

        place.farm.start_coordinator()

        until(lambda: not other.exists(), what="what no job has is gone")
        assert (files / "configs" / f"job_{job_id}.json").exists()
        assert place.status(job_id)["status"] == "completed"


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that remembers what was posted to it."""
    heard: list[dict[str, Any]] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(read(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    server = HTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alerts", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_s001_36_alerts_say_what_happens_to_trainings(tmp_path: Path) -> None:
    with receiver() as (url, heard), town(tmp_path / "town", alert_url=url) as place:

        def types(job_id: str) -> list[str]:
            return [each["type"] for each in heard if each["job_id"] == job_id]

        done = place.execute(steps=2, base_model="tiny")
        broken = place.execute(steps=1, fail="it broke")
        oom = place.execute(steps=1, fail="CUDA out of memory. Tried to allocate 2 GiB")
        waits = place.execute(steps=2, wait_at=1, gate=str(place.gate()))
        place.until_step(waits, 1)
        place.ask("POST", f"/api/training/cancel/{waits}")

        until(lambda: types(waits) == ["job_started", "job_cancelled"])
        assert types(done) == ["job_started", "job_completed"]
        assert types(broken) == ["job_started", "job_failed"]
        assert types(oom) == ["job_started", "gpu_oom"]
        last = next(each for each in heard if each["type"] == "job_completed")
        assert set(last) == {
            "type", "job_id", "user_id", "model_name", "base_model", "status", "progress",
            "current_step", "total_steps", "loss", "duration", "error_message", "error_type",
        }  # fmt: skip
        assert (last["user_id"], last["base_model"], last["loss"]) == ("ada", "tiny", 0.5)
        failed = next(each for each in heard if each["type"] == "job_failed")
        assert failed["error_message"].endswith("it broke")
        assert failed["error_type"].endswith("RuntimeError")


def test_s001_36_a_training_that_says_nothing_is_warned_of(tmp_path: Path) -> None:
    with (
        receiver() as (url, heard),
        town(tmp_path / "town", alert_url=url, timeout_minutes=0.25) as place,
    ):
        job_id = place.execute(steps=2, wait_at=1, gate=str(place.gate()))

        until(lambda: [each for each in heard if each["type"] == "timeout_warning"])

        assert place.status(job_id)["status"] in ("running", "failed")
        place.until_status(job_id, "failed")
        assert [each["type"] for each in heard].count("timeout_warning") == 1


def test_s001_36_an_address_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    with town(tmp_path / "town", alert_url="http://127.0.0.1:9/nobody") as place:
        job_id = place.execute(steps=1)

        assert place.until_status(job_id, "completed")
