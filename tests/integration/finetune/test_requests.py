"""Seed 001's REST: new trainings, what is told of them, downloads, limits."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import until
from tests.integration.finetune.training_bench import Town, read, town
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_protocol.jobs import JobSpec, Payload

STATUS = {
    "job_id", "user_id", "status", "progress", "current_epoch", "total_epochs", "current_step",
    "total_steps", "loss", "eval_loss", "learning_rate", "max_learning_rate", "batch_size",
    "gradient_accumulation_steps", "grad_norm", "gpu_memory_allocated_gb",
    "gpu_memory_reserved_gb", "elapsed_seconds", "remaining_seconds", "samples_per_second",
    "error_message", "started_at", "completed_at", "updated_at", "perplexity", "train_perplexity",
    "best_eval_loss", "best_epoch", "best_step", "epochs_without_improvement", "loss_trend",
    "total_samples", "train_samples", "val_samples", "total_tokens_processed",
    "resume_from_checkpoint", "num_gpus", "distributed_strategy", "parameter_updates",
    "last_parameter_update_at", "process_pid",
}  # fmt: skip
POINT = {
    "step", "epoch", "train_loss", "eval_loss", "learning_rate", "grad_norm",
    "gpu_memory_allocated_gb", "gpu_memory_reserved_gb", "gpu_utilization_percent", "perplexity",
    "train_perplexity", "samples_per_second", "tokens_per_second", "timestamp",
}  # fmt: skip


@pytest.fixture(scope="module")
def done(shared: Town) -> str:
    """A training that is completed."""
    job_id = shared.execute(steps=4, checkpoints=[2, 4])
    shared.until_status(job_id, "completed")
    return job_id


def test_s001_20_execute_takes_a_training_in_under_its_execution_id(shared: Town) -> None:
    rows = [{"text": "one"}, {"text": "two"}]
    job_id = shared.execute(job_id="execution-1", steps=1, dataset_content=rows)

    shared.until_status(job_id, "completed")

    kept = json.loads((shared.files / "configs" / "job_execution-1.json").read_text())
    assert kept["config"] == {"batch_size": 4, "steps": 1}
    dataset = shared.files / "logs" / "datasets" / "job_execution-1" / "train_dataset.jsonl"
    assert [json.loads(line) for line in dataset.read_text().splitlines()] == rows
    assert 'dataset {"text": "one"}' in shared.log(job_id)
    assert shared.execute(job_id="execution-1", steps=1, dataset_content=rows) == job_id
    body = {"execution_id": "execution-1", "user_id": "ada", "config": {"steps": 9}}
    shared.ask("POST", "/api/training/execute", json=body, status=409)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"execution_id": "x", "user_id": "ada", "config": {}}, "config"),
        ({"execution_id": "../x", "user_id": "ada", "config": {"a": 1}}, "execution_id"),
        ({"execution_id": "x", "config": {"a": 1}}, "user_id"),
        ([], "Execute"),
    ],
)
def test_s001_20_a_bad_request_is_refused(shared: Town, body: object, names: str) -> None:
    answer = shared.ask("POST", "/api/training/execute", json=body, status=400)

    assert names in answer["detail"] or "dictionary" in answer["detail"]


def test_s001_20_without_a_trainer_the_way_out_is_told(tmp_path: Path) -> None:
    with town(tmp_path / "town") as place:
        settings = place.farm.home / "lineshaft.toml"
        settings.write_text("[training]\nexecute_per_minute = 0\n")
        assert place.farm.coordinator is not None
        place.farm.coordinator.terminate()
        place.farm.start_coordinator()
        body = {"execution_id": "x", "user_id": "ada", "config": {"a": 1}}

        answer = place.ask("POST", "/api/training/execute", json=body, status=503)

    assert "[training]" in answer["detail"]
    assert "lineshaft.toml" in answer["detail"]


def test_s001_21_the_status_has_every_field(shared: Town, done: str) -> None:
    status = shared.status(done)

    assert set(status) >= STATUS
    assert (status["status"], status["user_id"], status["progress"]) == ("completed", "ada", 100)
    assert (status["current_step"], status["total_steps"]) == (4, 4)
    assert (status["current_epoch"], status["total_epochs"]) == (2, 2)
    assert (status["loss"], status["eval_loss"], status["batch_size"]) == (0.25, 0.5, 4)
    assert (status["best_eval_loss"], status["best_step"], status["best_epoch"]) == (0.5, 4, 2)
    assert status["loss_trend"] == "insufficient_data"
    assert status["gpu_memory_allocated_gb"] == 2
    assert status["completed_at"].endswith("Z")
    assert status["completed_at"] >= status["started_at"]
    shared.ask("GET", "/api/training/status/nobody", status=404)


def test_s001_22_metrics_and_logs_come_in_pages(shared: Town, done: str) -> None:
    metrics = shared.ask("GET", f"/api/training/metrics/{done}")
    points = metrics["metrics"]
    job_id = shared.execute(steps=1, environ=True)
    shared.until_status(job_id, "completed")
    whole = shared.ask("GET", f"/api/training/logs/{job_id}")
    first = shared.ask("GET", f"/api/training/logs/{job_id}?limit=1&offset=0")
    last = shared.ask("GET", f"/api/training/logs/{job_id}?limit=10&offset=-1")

    assert metrics["job_id"] == done
    assert all(set(point) == POINT for point in points)
    assert [point["step"] for point in points] == [1, 2, 3, 4]
    # Both records of a step are one point.
    assert (points[1]["train_loss"], points[1]["eval_loss"]) == (0.5, 1.0)
    assert (whole["total_lines"], whole["offset"], whole["limit"]) == (2, 0, 100)
    assert first["logs"] == ["begins at step 1"]
    assert last["logs"] == whole["logs"][1:]
    assert last["offset"] == 1
    shared.ask("GET", f"/api/training/logs/{job_id}?limit=0", status=400)
    shared.ask("GET", "/api/training/metrics/nobody", status=404)


def test_s001_23_errors_are_told_once_with_their_traceback(shared: Town) -> None:
    job_id = shared.execute(steps=1, fail="the loss is no number")
    shared.until_status(job_id, "failed")

    told = shared.ask("GET", f"/api/training/{job_id}/errors")

    assert told["job_id"] == job_id
    assert "the loss is no number" in told["error_summary"]
    by_message = {each["message"]: each for each in told["errors"]}
    assert by_message["step 17 went wrong"]["count"] == 2
    assert set(by_message["step 17 went wrong"]) == {
        "timestamp", "level", "phase", "message", "dedupe_key", "count",
    }  # fmt: skip
    assert told["traceback"]["exception_type"].endswith("RuntimeError")
    frames = told["traceback"]["frames"]
    assert [each["function"] for each in frames[-2:]] == ["main", "stumble"], "innermost last"
    assert [each["code"] for each in frames[-2:]] == [
        'stumble(config["fail"])', "raise RuntimeError(why)",
    ]  # fmt: skip
    assert told["unique_error_count"] == len(told["errors"])
    assert told["error_count"] == sum(each["count"] for each in told["errors"])
    assert shared.status(job_id)["error_message"].endswith("the loss is no number")


def test_s001_32_checkpoints_are_listed_newest_first_with_the_best(shared: Town, done: str) -> None:
    told = shared.ask("GET", f"/api/training/checkpoints/{done}")

    assert told["job_id"] == done
    assert [each["step"] for each in told["checkpoints"]] == [4, 2]
    assert [each["is_latest"] for each in told["checkpoints"]] == [True, False]
    newest = told["checkpoints"][0]
    assert newest["path"].endswith(f"logs/job_{done}/checkpoint-epoch-2-step-4")
    assert (newest["epoch"], newest["eval_loss"], newest["train_loss"]) == (2, 0.5, 0.25)
    assert newest["size_bytes"] > 3000
    assert told["best_checkpoint"] == newest
    weights = Path(newest["path"]) / "weights.bin"
    until(weights.exists, what="the checkpoint lies as a folder")
    assert weights.read_bytes() == bytes([4]) * 3000


def test_s001_33_a_model_is_downloaded_whole_and_in_parts(shared: Town, done: str) -> None:
    path = f"/api/training/{done}/download/model"
    whole = shared.response("GET", path)
    head = shared.response("HEAD", path)
    tag = whole.headers["etag"]
    part = shared.response("GET", path, headers={"Range": "bytes=100-", "If-Range": tag})
    middle = shared.response("GET", path, headers={"Range": "bytes=7-106"})
    end = shared.response("GET", path, headers={"Range": "bytes=-50"})
    other = shared.response("GET", path, headers={"Range": "bytes=100-", "If-Range": '"x"'})
    beyond = shared.response("GET", path, headers={"Range": "bytes=99999999-"})

    assert whole.headers["content-disposition"] == f"attachment; filename=job_{done}_model.zip"
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert whole.headers["x-checksum-sha256"] == hashlib.sha256(whole.content).hexdigest()
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert (part.status_code, part.content) == (206, whole.content[100:])
    assert (
        part.headers["content-range"] == f"bytes 100-{len(whole.content) - 1}/{len(whole.content)}"
    )
    assert (middle.status_code, middle.content) == (206, whole.content[7:107])
    assert (end.status_code, end.content) == (206, whole.content[-50:])
    assert other.status_code == 200
    assert beyond.status_code == 416
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        assert archive.testzip() is None
        (name,) = archive.namelist()
        assert archive.read(name) == b"weights" * 1000


def test_s001_33_checkpoints_and_logs_are_downloaded_by_name(shared: Town, done: str) -> None:
    base = f"/api/training/{done}/download"
    name = "checkpoint-epoch-1-step-2"
    chosen = shared.response("GET", f"{base}/model?checkpoint={name}")
    logs = shared.response("GET", f"{base}/logs")
    for bad in ("..", "a/b", "a%5Cb", "checkpoint-..-1"):
        shared.ask("GET", f"{base}/model?checkpoint={bad}", status=400)
    shared.ask("GET", f"{base}/model?checkpoint=checkpoint-9", status=404)

    assert chosen.headers["content-disposition"].endswith(f"filename=job_{done}_{name}.zip")
    with zipfile.ZipFile(io.BytesIO(chosen.content)) as archive:
        assert archive.read(f"{name}/weights.bin") == bytes([2]) * 3000
    assert logs.headers["content-disposition"].endswith(f"filename=job_{done}_logs.zip")
    with zipfile.ZipFile(io.BytesIO(logs.content)) as archive:
        assert archive.namelist() == ["training.log", "progress.json"]
        assert archive.read("training.log") == b"begins at step 1\n"
        assert read(archive.read("progress.json"))["status"] == "completed"


def test_s001_34_the_losses_of_the_analytics_are_the_recorded_ones(shared: Town, done: str) -> None:
    told = shared.ask("GET", f"/api/training/{done}/analytics")
    points = shared.ask("GET", f"/api/training/metrics/{done}")["metrics"]

    losses = [point["train_loss"] for point in points]
    assert told["losses"] == {
        "initial_loss": losses[0],
        "final_loss": losses[-1],
        "best_loss": min(losses),
        "loss_reduction_percent": 75.0,
    }
    assert told["performance"]["average_samples_per_second"] == 12.5
    assert told["performance"]["peak_samples_per_second"] == 14
    assert told["resource_utilization"]["average_gpu_utilization_percent"] == 50
    assert told["resource_utilization"]["peak_gpu_memory_mb"] == 2048
    assert told["checkpoints"]["total_checkpoints"] == 2
    assert told["efficiency"]["overall_score"] == pytest.approx((50 + 100 * 12.5 / 14) / 2)
    assert told["duration"]["total_seconds"] > 0


def test_s001_35_trainings_are_summed_up_and_compared(shared: Town, done: str) -> None:
    worse = shared.execute(steps=2)
    shared.until_status(worse, "completed")
    first = shared.ask("GET", "/api/training/analytics/summary")
    second = shared.ask("GET", "/api/training/analytics/summary")
    compared = shared.ask("GET", f"/api/training/analytics/compare?job_ids={done},{worse}")
    shared.ask("GET", f"/api/training/analytics/compare?job_ids={done}", status=400)

    assert set(first) == {
        "total_jobs", "jobs_by_status", "average_training_duration_seconds",
        "total_training_time_hours", "average_throughput_samples_per_sec", "top_performing_jobs",
        "resource_trends", "from_cache", "cache_age_seconds",
    }  # fmt: skip
    assert first["total_jobs"] == sum(first["jobs_by_status"].values())
    assert second["from_cache"] is True
    assert second["total_jobs"] == first["total_jobs"]
    assert len(first["top_performing_jobs"]) <= 5
    assert [each["job_id"] for each in compared["jobs"]] == [done, worse]
    assert [each["final_loss"] for each in compared["jobs"]] == [0.25, 0.5]
    assert compared["winner"]["best_loss"] == done
    assert compared["winner"]["best_throughput"] == done


def test_s001_37_the_trainer_is_told_who_it_is(shared: Town) -> None:
    job_id = shared.execute(steps=1, environ=True)
    shared.until_status(job_id, "completed")

    told = json.loads(shared.log(job_id)[1])

    base = f"http://127.0.0.1:{shared.farm.port}/api/training"
    assert told.pop("is_leader") is True
    token = told.pop("JOB_TOKEN")
    assert told == {
        "JOB_ID": job_id, "JOB_USER_ID": "ada", "METRICS_API_URL": base, "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    # The token opens what concerns this training, and nothing else.
    own = {"Authorization": f"Bearer {token}"}
    shared.ask("GET", f"/api/training/status/{job_id}", headers=own)
    shared.ask("GET", "/api/training/status/another", headers=own, status=401)
    shared.ask("GET", f"/api/v1/jobs/{job_id}", headers=own, status=401)
    story = shared.response("GET", f"/api/v1/jobs/{job_id}/story").text
    assert token not in story


def test_s001_38_a_training_goes_on_alone_for_ten_minutes(shared: Town) -> None:
    job_id = shared.execute(steps=1)

    story = json.loads(shared.response("GET", f"/api/v1/jobs/{job_id}/story").text)

    told = next(each["job"] for each in story if "job" in each)
    spec = JobSpec.model_validate({**told, "payload": Payload.of_bytes(b"not told")})
    lease_s, ending_s = CoreSettings().lease_of(spec)
    assert (lease_s - ending_s) * 0.9 > 600, "with a clock that is wrong by a tenth"


def test_s001_39_health_says_what_there_is(shared: Town) -> None:
    told = shared.ask("GET", "/health", headers={"Accept": "application/json"})

    assert set(told) >= {"status", "service", "version", "gpu_available", "gpu_info"}
    assert (told["status"], told["gpu_available"], told["gpu_info"]) == ("healthy", False, [])
    assert shared.ask("GET", "/api/training/health").items() <= told.items()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A training server with limits, and pages that may use it."""
    with town(
        tmp_path_factory.mktemp("strict"),
        requests_per_minute=3,
        execute_per_minute=1,
        without_token=True,
        origins=["http://page.example:3000"],
    ) as made:
        yield made


def test_requests_beyond_the_limit_are_told_to_wait(strict: Town) -> None:
    answers = [strict.response("GET", "/api/training/queue") for _ in range(4)]
    body = {"execution_id": "x", "user_id": "ada", "config": {"steps": 1}}
    posts = [strict.response("POST", "/api/training/execute", json=body) for _ in range(2)]

    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert [each.status_code for each in posts] == [200, 429]


def test_only_pages_that_are_named_may_use_the_training_server(strict: Town) -> None:
    def asked(origin: str, method: str = "GET", path: str = "/api/training/logs/nobody") -> Any:
        return strict.response(method, path, headers={"Origin": origin})

    named, other = asked("http://page.example:3000"), asked("http://evil.example")
    before = asked("http://page.example:3000", "OPTIONS", "/api/training/execute")
    refused = asked("http://evil.example", "OPTIONS", "/api/training/execute")

    assert named.status_code == 404  # It was let in; there is no such training.
    assert named.headers["access-control-allow-origin"] == "http://page.example:3000"
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
    assert before.status_code == 204
    assert "POST" in before.headers["access-control-allow-methods"]
    assert refused.status_code == 403


def test_pages_and_tokens_count_for_the_live_feed_too(strict: Town) -> None:
    with strict.farm.client() as client:  # Any job can be looked at.
        job = client.run("a.py", files={"a.py": b"print(1)"})
        job.result(30)

    def status(origin: str | None, token: str) -> int:
        url = f"ws://127.0.0.1:{strict.farm.port}/ws/training/{job.id}{token}"
        try:
            with connect(url, origin=None if origin is None else Origin(origin)):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    assert status(None, "") == 101
    assert status("http://page.example:3000", f"?token={strict.token}") == 101
    assert status("http://evil.example", f"?token={strict.token}") == 403
    assert status(None, "?token=wrong%C3%A4") == 401


def test_clients_of_this_machine_need_no_token_where_the_operator_says_so(
    strict: Town, shared: Town
) -> None:
    none = {"Authorization": ""}

    assert strict.response("GET", "/api/training/logs/nobody", headers=none).status_code == 404
    assert shared.response("GET", "/api/training/logs/nobody", headers=none).status_code == 401
