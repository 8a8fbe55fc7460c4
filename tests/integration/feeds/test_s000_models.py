"""Seed 000's models, notebooks, health, counts and gauges, through a real coordinator."""

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from tests.e2e.farm import until
from tests.integration.feeds.conductor import Conducted
from tests.integration.feeds.conftest import House
from tests.integration.feeds.test_s000_stream import Run

from lineshaft_coordinator.server.admission import local_token


def test_s000_28_health_says_how_it_is(house: House, conduct: Callable[..., Conducted]) -> None:
    url = f"http://127.0.0.1:{house.farm.port}/health"
    show = conduct()
    until(lambda: show.job.status == "running")

    answer = httpx.get(url, headers={"Accept": "application/json"})

    assert answer.status_code == 200
    health = answer.json()
    assert set(health) >= {
        *("status", "database", "inference", "models_loaded", "pool_size", "pool_utilization"),
        "last_check",
    }
    assert (health["status"], health["pool_size"]) == ("healthy", 8)
    assert health["pool_utilization"] >= 1 / 8
    # Clients of the seed plan protocol still get their word.
    assert httpx.get(url).text == "ok"


def test_s000_29_counts_are_told_to_prometheus_and_to_admins(house: House) -> None:
    http = house.http()
    before = http.get("/api/admin/stats").json()
    run = Run(house)

    text = http.get("/api/metrics").text
    stats = http.get("/api/admin/stats").json()

    assert set(stats) == {
        *("users_total", "runs_total", "runs_running"),
        *("models_total", "endpoints_total", "endpoints_running"),
    }
    assert stats["runs_total"] == before["runs_total"] + 1
    assert stats["runs_running"] == before["runs_running"] + 1
    found = dict(re.findall(r"^(axonml_\w+)(?:\{.*\})? (\d+)$", text, re.MULTILINE))
    assert set(found) == {
        *("axonml_users_total", "axonml_runs_running"),
        *("axonml_endpoints_running", "axonml_server_info"),
    }
    assert int(found["axonml_runs_running"]) == stats["runs_running"]
    run.stop()
    assert http.get("/api/admin/stats").json()["runs_running"] == before["runs_running"]
    user = house.http(house.tokens.create("client")[1])
    assert user.get("/api/admin/stats").status_code == 403


def test_s000_30_the_machines_gauges_and_their_last_minute(house: House) -> None:
    http = house.http()

    gauges = http.get("/api/system/metrics").json()

    assert {
        *("cpu_usage_percent", "memory_used_bytes", "memory_total_bytes", "memory_percent"),
        *("disk_used_bytes", "network_rx_bytes", "network_tx_bytes", "process_count"),
        *("uptime_seconds", "load_avg_1m", "load_avg_5m", "load_avg_15m", "cpu_per_core"),
        "gpu_metrics",
    } <= set(gauges)
    assert 0 < gauges["memory_used_bytes"] < gauges["memory_total_bytes"]
    assert http.get("/api/system/info").json()["cpu_count"] == len(gauges["cpu_per_core"])
    assert http.get("/api/system/gpus").json() == gauges["gpu_metrics"]

    def history() -> dict[str, Any]:
        found: dict[str, Any] = http.get("/api/system/metrics/history").json()
        assert len({len(points) for points in found.values()}) == 1
        return found

    # Asking takes the network, so it cannot stand still.
    until(lambda: any(history()["network_rx"]), what="the network is seen to be used")
    assert {"timestamps", "cpu_history", "memory_history", "gpu_utilization"} <= set(history())


def _model(house: House, token: str | None = None) -> tuple[httpx.Client, str]:
    http = house.http(token)
    answer = http.post("/api/models", json={"name": "net", "model_type": "mlp"})
    assert answer.status_code == 201
    return http, f"/api/models/{answer.json()['id']}"


def test_s000_31_a_version_of_a_model_is_uploaded_and_downloaded_whole(house: House) -> None:
    http, path = _model(house)
    content = bytes(range(256)) * 20_000
    form = {"metrics": json.dumps({"acc": 0.5}), "training_run_id": "r1"}

    answer = http.post(f"{path}/versions", data=form, files={"file": ("w.safetensors", content)})

    assert answer.status_code == 201
    version = answer.json()
    assert (version["version"], version["file_size"]) == (1, len(content))
    assert version["file_path"].endswith("/v1/model.safetensors")
    assert (version["metrics"], version["training_run_id"]) == ({"acc": 0.5}, "r1")
    assert version["sha256"] == hashlib.sha256(content).hexdigest()
    kept = house.farm.folder / "data" / "training_runs" / version["file_path"]
    assert kept.read_bytes() == content
    got = http.get(f"{path}/versions/1/download")
    assert got.content == content
    assert got.headers["content-type"] == "application/octet-stream"
    assert "model.safetensors" in got.headers["content-disposition"]
    part = http.get(f"{path}/versions/1/download", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])


def test_s000_31_versions_count_on_without_a_gap(house: House) -> None:
    http, path = _model(house)

    def upload(number: int) -> int:
        files = {"file": (f"{number}.../../evil", b"%d" % number)}
        version: int = http.post(f"{path}/versions", files=files).json()["version"]
        return version

    with ThreadPoolExecutor(4) as threads:
        numbers = sorted(threads.map(upload, range(12)))

    assert numbers == list(range(1, 13))
    listed = http.get(f"{path}/versions").json()
    assert [each["version"] for each in listed] == numbers
    assert {Path(each["file_path"]).name for each in listed} == {"model.bin"}


def test_s000_31_models_belong_to_who_made_them(house: House) -> None:
    mine, other = (house.tokens.create("client")[1] for _ in range(2))
    http, path = _model(house, mine)
    http.post(f"{path}/versions", files={"file": ("m.bin", b"1")})

    assert house.http(other).get(path).status_code == 403
    assert house.http(other).get(f"{path}/versions/1/download").status_code == 403
    assert house.http(other).get("/api/models").json() == []
    assert [f"/api/models/{each['id']}" for each in http.get("/api/models").json()] == [path]
    assert http.post(f"{path}/versions", data={"metrics": "{}"}).status_code == 400
    assert http.delete(path).status_code == 204
    assert http.get(path).status_code == 404


def test_s000_32_the_best_checkpoint_of_a_notebook_has_the_least_loss(house: House) -> None:
    http, path = house.http(), "/api/notebooks/nb-1/checkpoints"
    assert http.get(f"{path}/best").status_code == 404
    for step, loss in ((1, 0.9), (2, 0.3), (3, 0.5)):
        body = {"epoch": 0, "step": step, "metrics": {"loss": loss}}
        assert http.post(path, json=body).status_code == 201

    listed = http.get(path).json()
    best = http.get(f"{path}/best").json()

    assert [each["step"] for each in listed] == [1, 2, 3]
    assert best == listed[1]
    assert {
        *("id", "notebook_id", "epoch", "step", "metrics", "model_state_path", "created_at")
    } <= set(best)


def test_numbers_that_json_has_not_are_told_as_null_and_spoil_no_list(house: House) -> None:
    http, path = house.http(), "/api/notebooks/nb-nan/checkpoints"
    # Python's own json writes these; a run that diverges reports them.
    for step, loss in ((1, "NaN"), (2, "0.3"), (3, "-Infinity")):
        body = f'{{"epoch": 0, "step": {step}, "metrics": {{"loss": {loss}}}}}'
        assert http.post(path, content=body).status_code == 201
    _, model = _model(house)
    files = {"file": ("m.bin", b"1")}
    kept = http.post(f"{model}/versions", files=files, data={"metrics": '{"acc": NaN}'})
    run = {"name": "r", "model_type": "t"}
    config = '{"epochs": 1, "batch_size": 1, "learning_rate": 0.1, "limit": Infinity}'
    began = http.post(
        "/api/training/runs", content=json.dumps(run)[:-1] + f', "config": {config}}}'
    )

    listed, best = http.get(path).json(), http.get(f"{path}/best").json()

    assert [each["metrics"] for each in listed] == [{"loss": None}, {"loss": 0.3}, {"loss": None}]
    assert best == listed[1]
    assert kept.status_code == 201
    assert http.get(f"{model}/versions").json()[0]["metrics"] == {"acc": None}
    assert began.json()["config"]["limit"] is None
    metrics = '{"epoch": 0, "step": 1, "custom": {"x": NaN}}'
    run_path = f"/api/training/runs/{began.json()['id']}"
    assert http.post(f"{run_path}/metrics", content=metrics).json()["custom"] == {"x": None}
    assert http.get(f"{run_path}/metrics").json()[0]["custom"] == {"x": None}
    assert http.get("/api/training/runs").status_code == 200


def test_s000_33_it_starts_where_it_is_told_and_keeps_its_data_there(house: House) -> None:
    run = Run(house)  # It answers where it was told to listen.
    run.http.post(f"{run.path}/logs", json={"message": "x"})

    data = house.farm.folder / "data"
    assert (data / "tracking.sqlite").is_file()
    assert (data / "training_runs" / "runs" / run.run["id"] / "logs.jsonl").is_file()
    assert not (house.farm.home / "data").exists()


def test_s000_41_the_first_start_writes_a_random_token_for_its_user_alone(
    house: House, tmp_path: Path
) -> None:
    path = house.farm.home / "token"

    homes = [tmp_path / name for name in ("one", "other")]
    drawn = {path.read_text().strip(), *(local_token(home) for home in homes)}
    assert len(drawn) == 3
    assert all(len(token) >= 43 for token in drawn)
    assert local_token(homes[0]) in drawn  # A later start finds it again.
    # That of the daemon, and what does not owe it to the daemon's umask.
    written = [path, *(home / "token" for home in homes)]
    assert [each.stat().st_mode & 0o077 for each in written] == [0, 0, 0]
    for guess in ("admin", "password", "axonml"):
        headers = {"Authorization": f"Bearer {guess}"}
        url = f"http://127.0.0.1:{house.farm.port}/api/training/runs"
        assert httpx.get(url, headers=headers).status_code == 401
