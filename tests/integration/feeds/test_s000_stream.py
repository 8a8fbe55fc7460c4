"""Seed 000's stream, by its checklist, through a real coordinator. What is reported and what
Lineshaft's own jobs log come over the same path."""

import datetime
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.e2e.farm import until
from tests.integration.feeds.conductor import Conducted
from tests.integration.feeds.conftest import House, Socket
from websockets.exceptions import InvalidStatus

from lineshaft import Client
from lineshaft_coordinator.training_runs.messages import format_metrics, format_status

Conduct = Callable[..., Conducted]
CONFIG = {"epochs": 3, "batch_size": 8, "learning_rate": 0.1}


def stay() -> None:
    """Run until it is stopped."""
    threading.Event().wait(600)


class Run:
    """A run that this test reports."""

    def __init__(self, house: House, token: str | None = None) -> None:
        self.http = house.http(token)
        body = {"name": "r", "model_type": "mlp", "config": CONFIG}
        answer = self.http.post("/api/training/runs", json=body)
        assert answer.status_code == 201, answer.text
        self.run = answer.json()
        self.path = f"/api/training/runs/{self.run['id']}"
        self.stream = f"{self.path}/stream"

    def record(self, step: int, **values: Any) -> dict[str, Any]:
        body = {"epoch": 0, "step": step, **values}
        answer = self.http.post(f"{self.path}/metrics", json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def stop(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.post(f"{self.path}/stop").json()
        return found

    def complete(self, *, success: bool) -> dict[str, Any]:
        answer = self.http.post(f"{self.path}/complete", json={"success": success})
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def run(house: House) -> Run:
    return Run(house)


def steps(messages: list[dict[str, Any]]) -> list[int]:
    return [each["data"]["step"] for each in messages if each["type"] == "metrics"]


def test_s000_01_a_good_token_opens_the_stream(house: House, run: Run) -> None:
    socket = house.look(run.stream)

    assert socket.connection.response is not None
    assert socket.connection.response.status_code == 101


def test_s000_02_without_a_good_token_the_upgrade_is_refused_in_the_seeds_words(
    house: House, run: Run
) -> None:
    answers: list[tuple[int, str]] = []
    for query in ("", "?token=nonsense"):
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        url = f"http://127.0.0.1:{house.farm.port}{run.stream}{query}"
        answer = httpx.get(url, headers=upgrade)
        answers.append((answer.status_code, answer.text))

    assert answers[0] == (401, "Missing token parameter. Connect with ?token=<jwt>")
    assert answers[1][0] == 401
    assert answers[1][1].startswith("Invalid token: ")


def test_s000_03_a_run_is_shown_to_its_owner_and_to_admins_only(house: House) -> None:
    mine, other = (house.tokens.create("client")[1] for _ in range(2))
    run = Run(house, mine)

    with pytest.raises(InvalidStatus) as refused:
        house.look(run.stream, token=other)

    assert refused.value.response.status_code == 403
    assert house.http(other).get(run.path).status_code == 403
    house.look(run.stream, token=mine)
    house.look(run.stream, token=house.tokens.create("admin")[1])


def test_s000_03_a_job_is_shown_to_its_owner_to_admins_and_to_viewers_only(house: House) -> None:
    mine, other, admin, viewer = (
        house.tokens.create(role)[1] for role in ("client", "client", "admin", "viewer")
    )
    url = house.farm.url
    with Client(url, token=mine) as client:
        client.submit(abs, -1).result(60)
        ended = client.submit(abs, -2)
        ended.result(60)
        live = client.submit(stay)
        until(lambda: house.http(mine).get(f"/api/v1/jobs/{live.id}").status_code == 200)
    try:
        for job_id in (ended.id, live.id):
            path = f"/api/training/runs/{job_id}"
            for token in (mine, admin, viewer):
                assert house.http(token).get(path).status_code == 200
                house.look(f"{path}/stream", token=token)
            with pytest.raises(InvalidStatus) as refused:
                house.look(f"{path}/stream", token=other)
            answers = [house.http(other).get(f"{path}{part}") for part in ("", "/metrics", "/logs")]
            answers.append(house.http(other).post(f"{path}/stop"))
            assert refused.value.response.status_code == 403
            assert [each.status_code for each in answers] == [403] * 4
        listed = {
            token: {run["id"] for run in house.http(token).get("/api/training/runs").json()}
            for token in (mine, other, admin, viewer)
        }
        assert listed[other] == set()
        assert all({ended.id, live.id} <= listed[token] for token in (mine, admin, viewer))
    finally:
        house.http(mine).post(f"/api/training/runs/{live.id}/stop").raise_for_status()


def test_s000_04_every_metric_is_pushed_once_and_in_order(house: House, run: Run) -> None:
    socket = house.look(run.stream)

    for step in range(1, 51):
        run.record(step, loss=1 / step)
    run.complete(success=True)

    assert steps(socket.rest()) == list(range(1, 51))


def test_s000_04_metrics_of_a_job_are_pushed_as_well(house: House, conduct: Conduct) -> None:
    show = conduct()
    socket = house.look(f"/api/training/runs/{show.job_id}/stream")
    show.do("many", {"first": 1, "last": 50, "size": 0})
    show.do("end")

    messages = socket.rest()

    assert steps(messages) == list(range(1, 51))
    assert messages[-1]["data"]["status"] == "completed"


def test_s000_05_what_is_not_known_is_left_out(house: House, run: Run) -> None:
    socket = house.look(run.stream)

    run.record(1, loss=0.5)

    message = socket.next()
    assert message is not None
    assert message["type"] == "metrics"
    assert list(message["data"]) == ["epoch", "step", "loss", "timestamp"]
    stamp = message["data"]["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00", stamp)


def test_s000_06_who_falls_behind_skips_the_oldest_and_stays(
    house: House, conduct: Conduct
) -> None:
    show = conduct()
    path = f"/api/training/runs/{show.job_id}/stream"
    slow = house.look(path, buffer_bytes=2048)
    quick = house.look(path)
    # Sockets alone swallow some megabytes before a queue is needed.
    show.do("many", {"first": 1, "last": 60_000, "size": 0})
    got_quick = _up_to(quick, 60_000)

    got_slow = _up_to(slow, 60_000)
    show.do("end")

    assert got_slow == sorted(set(got_slow))
    # What the socket swallowed comes first, then a gap, then what the ring holds.
    assert got_slow[-100:] == list(range(59_901, 60_001))
    assert 59_900 not in got_slow
    assert got_quick == list(range(1, 60_001))
    assert slow.rest()[-1]["data"]["status"] == "completed"


def _up_to(socket: Socket, step: int) -> list[int]:
    found: list[int] = []
    while not found or found[-1] != step:
        message = socket.next()
        assert message is not None, f"hung up at {found[-1:]}: {socket.close_reason}"
        found += steps([message])
    return found


def test_s000_08_the_end_is_one_status_and_then_the_server_hangs_up(house: House, run: Run) -> None:
    socket = house.look(run.stream)
    run.record(1, loss=0.5)
    run.complete(success=True)

    messages = socket.rest()

    assert [each["type"] for each in messages] == ["metrics", "status"]
    assert messages[-1]["data"]["status"] == "completed"
    assert socket.close_code == 1000


@pytest.mark.parametrize("status", ["completed", "failed", "stopped"])
def test_s000_09_the_status_at_the_end_is_the_true_one(house: House, run: Run, status: str) -> None:
    socket = house.look(run.stream)
    run.record(1, loss=0.5)

    ended = run.stop() if status == "stopped" else run.complete(success=status == "completed")

    assert ended["status"] == status
    assert socket.rest()[-1] == {
        "type": "status",
        "data": {"status": status, "completed_at": ended["completed_at"]},
    }


def test_s000_09_jobs_that_fail_or_are_cancelled_end_as_failed_and_stopped(
    house: House, conduct: Conduct
) -> None:
    broken, unwanted = conduct(), conduct()
    sockets = [
        house.look(f"/api/training/runs/{each.job_id}/stream") for each in (broken, unwanted)
    ]
    until(lambda: unwanted.job.status == "running", what="the job runs")

    broken.do("fail", "oh no")
    stopped = house.http().post(f"/api/training/runs/{unwanted.job_id}/stop")

    assert stopped.status_code == 200
    ends = [socket.rest()[-1] for socket in sockets]
    assert [end["data"]["status"] for end in ends] == ["failed", "stopped"]
    assert all("completed_at" in end["data"] for end in ends)


def test_s000_10_a_viewer_who_leaves_an_idle_run_is_noticed_at_once(
    house: House, conduct: Conduct
) -> None:
    show = conduct()
    show.log(1, loss=1.0)
    socket = house.look(f"/api/training/runs/{show.job_id}/stream")
    assert socket.next() is not None
    http = house.http()

    def watcher_count() -> int:
        count: int = http.get("/api/v1/info").json()["clients"]
        return count

    before = watcher_count()
    socket.connection.close()

    until(lambda: watcher_count() == before - 1, what="the viewer is forgotten", within_s=10)


def test_s000_11_a_run_that_is_over_is_told_by_exactly_one_status(house: House, run: Run) -> None:
    run.record(0, loss=0.5)
    run.complete(success=False)

    socket = house.look(run.stream)

    messages = socket.rest()
    assert [each["type"] for each in messages] == ["status"]
    assert messages[0]["data"]["status"] == "failed"
    assert socket.close_code == 1000


def test_s000_11_step_zero_is_sent_too(house: House, run: Run) -> None:
    run.record(0, loss=0.5)

    socket = house.look(run.stream)

    message = socket.next()
    assert message is not None
    assert message["data"]["step"] == 0


def test_s000_12_what_a_viewer_says_is_ignored(house: House, run: Run) -> None:
    socket = house.look(run.stream)
    socket.connection.send("junk")
    socket.connection.send(b"\x00junk")
    assert socket.connection.ping().wait(20)

    run.record(1, loss=0.5)

    message = socket.next()
    assert message is not None
    assert message["data"]["step"] == 1


def test_s000_13_the_messages_are_the_same_without_a_socket(house: House, run: Run) -> None:
    socket = house.look(run.stream)
    values = {"loss": 0.5, "accuracy": 0.25, "lr": 1e-4, "gpu_util": 0.57, "memory_mb": 1234.5}
    run.record(3, **values, custom={"a": 1})
    run.stop()

    told, ended = str(socket.connection.recv(20)), str(socket.connection.recv(20))

    at = _seconds(json.loads(told)["data"]["timestamp"])
    assert told == format_metrics({"epoch": 0, "step": 3, **values, "custom": 1}, at)
    assert ended == format_status("stopped", _seconds(json.loads(ended)["data"]["completed_at"]))


def _seconds(stamp: str) -> float:
    whole, _, rest = stamp.partition(".")
    at = datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return at + int(rest.removesuffix("+00:00")) / 1e9
