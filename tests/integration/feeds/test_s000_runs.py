"""Seed 000's REST interface of runs, by its checklist, through a real coordinator."""

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from tests.integration.feeds.conductor import Conducted
from tests.integration.feeds.conftest import House
from tests.integration.feeds.test_s000_stream import CONFIG, Run

Conduct = Callable[..., Conducted]
RUNS = "/api/training/runs"


@pytest.fixture
def run(house: House) -> Run:
    return Run(house)


def test_s000_20_a_new_run_keeps_all_of_its_config(house: House) -> None:
    config = CONFIG | {"dropout": {"p": [0.1, None]}, "note": "ü"}
    body = {"name": "n", "model_type": "cnn", "dataset_id": "d", "config": config}

    answer = house.http().post(RUNS, json=body)

    assert answer.status_code == 201
    run = answer.json()
    assert run["status"] == "running"
    assert run["config"] == {"steps_per_epoch": 100, "optimizer": "adam", **config}
    assert run["dataset_id"] == "d"
    assert house.http().get(f"{RUNS}/{run['id']}").json() == run


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"name": "n", "config": CONFIG}, "model_type"),
        ({"name": "n", "model_type": "m", "config": {"epochs": 1}}, "config.batch_size"),
        ("nonsense", ""),
    ],
)
def test_s000_20_a_run_that_says_too_little_is_refused_by_name(
    house: House, body: Any, named: str
) -> None:
    answer = house.http().post(RUNS, json=body)

    assert answer.status_code == 400
    assert named in answer.json()["error"]


def test_s000_21_a_run_has_the_seeds_keys(run: Run) -> None:
    run.record(1, loss=0.5)
    run.complete(success=True)

    keys = set(run.http.get(run.path).json())

    assert keys == {
        *("id", "user_id", "name", "model_type", "status", "config", "latest_metrics"),
        *("started_at", "completed_at", "created_at"),
    }


def test_s000_21_a_job_is_a_run_as_well(house: House, conduct: Conduct) -> None:
    show = conduct(name="my training")
    show.log(3, loss=0.5, learning_rate=0.1, epoch=2)
    show.do("end")
    show.job.result(60)

    run = house.http().get(f"{RUNS}/{show.job_id}").json()

    assert (run["id"], run["name"], run["status"]) == (show.job_id, "my training", "completed")
    assert run["config"] == {"score": str(show.score)}
    assert {"started_at", "completed_at", "created_at"} <= set(run)
    latest = run["latest_metrics"]
    assert (latest["epoch"], latest["step"], latest["loss"], latest["lr"]) == (2, 3, 0.5, 0.1)
    assert show.job_id in [each["id"] for each in house.http().get(RUNS).json()]


def test_s000_22_runs_are_listed_newest_first_to_whom_they_belong(house: House) -> None:
    mine, other = (house.tokens.create("client")[1] for _ in range(2))
    first, second, third = (Run(house, mine) for _ in range(3))
    foreign = Run(house, other)
    second.stop()

    def listed(query: str = "", token: str = mine) -> list[str]:
        ours = {each.run["id"] for each in (first, second, third, foreign)}
        runs = house.http(token).get(f"{RUNS}{query}").json()
        return [each["id"] for each in runs if each["id"] in ours]

    newest_first = [each.run["id"] for each in (third, second, first)]
    assert listed() == newest_first
    assert listed("?status=stopped") == [second.run["id"]]
    assert listed("?status=whatever") == newest_first
    assert listed("?limit=1&offset=1") == [second.run["id"]]
    assert listed("?limit=4", token=house.token) == [foreign.run["id"], *newest_first]


def test_s000_23_a_deleted_run_is_gone_with_its_logs(house: House, run: Run) -> None:
    run.record(1, loss=0.5)
    run.http.post(f"{run.path}/logs", json={"message": "hello"})
    socket = house.look(run.stream)
    assert socket.next() is not None
    folder = house.farm.folder / "data" / "training_runs" / "runs" / run.run["id"]
    assert folder.exists()

    answer = run.http.delete(run.path)

    assert answer.status_code == 204
    assert run.http.get(run.path).status_code == 404
    assert run.http.get(f"{run.path}/metrics").status_code == 404
    assert not folder.exists()
    with closing(sqlite3.connect(house.farm.folder / "data" / "tracking.sqlite")) as book:
        sql = "SELECT count(*) FROM metrics WHERE run_id = ?"
        assert book.execute(sql, (run.run["id"],)).fetchone() == (0,)
    assert socket.rest() == []


def test_s000_24_a_stopped_run_stays_stopped_however_busy_it_is(house: House) -> None:
    def stopped_while_busy() -> str:
        run = Run(house)
        with ThreadPoolExecutor(3) as threads:
            busy = [threads.submit(run.record, step, loss=1.0) for step in range(4)]
            run.stop()
            # Its program sees an error somewhere, and says that it failed.
            busy.append(threads.submit(run.complete, success=False))
            for each in busy:
                each.result()
        return str(run.http.get(run.path).json()["status"])

    assert {stopped_while_busy() for _ in range(50)} == {"stopped"}


def test_s000_25_metrics_are_kept_and_become_the_latest(run: Run) -> None:
    run.record(1, loss=0.9)
    shown = run.record(2, loss=0.5, lr=0.1)

    latest = run.http.get(run.path).json()["latest_metrics"]

    assert latest == shown
    assert (latest["step"], latest["loss"], latest["lr"]) == (2, 0.5, 0.1)


def test_s000_26_all_columns_and_custom_come_back(run: Run) -> None:
    values = {"loss": 0.1, "accuracy": 0.2, "lr": 3e-5, "gpu_util": 0.57, "memory_mb": 4096.3}
    run.record(7, **values, custom={"grad": [1, 2.5], "who": None})
    run.record(8)

    metrics = run.http.get(f"{run.path}/metrics").json()

    assert [{k: v for k, v in each.items() if k != "timestamp"} for each in metrics] == [
        {"epoch": 0, "step": 7, **values, "custom": {"grad": [1, 2.5], "who": None}},
        {"epoch": 0, "step": 8},
    ]


def test_s000_26_metrics_of_a_job_are_an_array_too(house: House, conduct: Conduct) -> None:
    show = conduct()
    show.do("many", {"first": 1, "last": 700, "size": 0})
    show.do("end")
    show.job.result(60)

    metrics = house.http().get(f"{RUNS}/{show.job_id}/metrics").json()

    assert [each["step"] for each in metrics] == list(range(1, 701))


def test_s000_27_logs_are_lines_of_a_file_and_pages_of_an_answer(house: House, run: Run) -> None:
    for number in range(5):
        answer = run.http.post(f"{run.path}/logs", json={"message": f"line {number}"})
        assert answer.status_code == 201
    run.http.post(f"{run.path}/logs", json={"message": "bad", "level": "error"})

    logs = run.http.get(f"{run.path}/logs").json()["logs"]

    assert [(each["level"], each["message"]) for each in logs][-2:] == [
        ("INFO", "line 4"),
        ("ERROR", "bad"),
    ]
    assert set(logs[0]) == {"timestamp", "level", "message"}
    page = run.http.get(f"{run.path}/logs?offset=1&limit=2").json()["logs"]
    assert page == logs[1:3]
    file = house.farm.folder / "data/training_runs/runs" / run.run["id"] / "logs.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()] == logs


def test_s000_27_the_output_of_a_job_is_its_log(house: House, conduct: Conduct) -> None:
    show = conduct()
    show.do("print", "good morning")
    show.do("end")
    show.job.result(60)

    logs = house.http().get(f"{RUNS}/{show.job_id}/logs").json()["logs"]

    assert ("INFO", "good morning") in [(each["level"], each["message"]) for each in logs]


def test_runs_survive_a_restart_of_the_coordinator(house: House, run: Run) -> None:
    run.record(1, loss=0.5)
    house.farm.coordinator.kill()  # type: ignore[union-attr]
    house.farm.start_coordinator()
    run.record(2, loss=0.4)

    socket = house.look(run.stream)

    message = socket.next()
    assert message is not None
    assert message["data"]["step"] == 2
    steps = [each["step"] for each in run.http.get(f"{run.path}/metrics").json()]
    assert steps == [1, 2]


def test_a_job_is_not_changed_by_what_is_for_reported_runs(house: House, conduct: Conduct) -> None:
    show = conduct()
    http, path = house.http(), f"{RUNS}/{show.job_id}"

    answers = [
        http.post(f"{path}/metrics", json={"epoch": 0, "step": 1}),
        http.post(f"{path}/complete", json={"success": True}),
        http.post(f"{path}/logs", json={"message": "x"}),
        http.delete(path),
    ]

    assert [answer.status_code for answer in answers] == [409] * 4
