"""Lineshaft's own feed, through a real coordinator, worker and job."""

import json
import socket as sockets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from tests.e2e.farm import until
from tests.integration.feeds.conductor import Conducted
from tests.integration.feeds.conftest import House, Socket
from websockets.exceptions import InvalidStatus

Conduct = Callable[..., Conducted]


def path(conducted: Conducted, query: str = "") -> str:
    return f"/api/v1/jobs/{conducted.job_id}/live{query}"


def steps(messages: list[dict[str, Any]]) -> list[int]:
    return [each["data"]["step"] for each in messages if each["type"] == "metrics"]


def heard(socket: Socket, step: int) -> list[dict[str, Any]]:
    """Messages up to the metrics of this step."""
    found: list[dict[str, Any]] = []
    while not found or steps(found[-1:]) != [step]:
        message = socket.next()
        assert message is not None, f"hung up before step {step}: {found[-1:]}"
        found.append(message)
    return found


def test_a_viewer_sees_a_job_from_its_snapshot_to_its_end(house: House, conduct: Conduct) -> None:
    show = conduct()
    socket = house.look(path(show))
    show.log(1, loss=2.0)
    show.do("progress", {"step": 3, "total": 9})
    show.do("checkpoint", {"step": 1})
    until(show.job.checkpoints, what="the checkpoint is stored")
    show.do("end")

    messages = socket.rest()

    kinds = [each["type"] for each in messages if each["type"] not in ("state", "notice")]
    assert kinds[0] == "snapshot"
    assert [kind for kind in kinds[1:] if kind != "artifact"] == [
        "metrics",
        "progress",
        "checkpoint",
        "end",
    ]
    assert messages[-1]["data"]["status"] == "succeeded"
    assert socket.close_code == 1000


def test_a_late_viewer_gets_the_latest_values_and_then_what_follows(
    house: House, conduct: Conduct
) -> None:
    show = conduct()
    early = house.look(path(show))
    show.log(1, loss=2.0, lr=0.1)
    show.log(2, loss=float("nan"))
    heard(early, 2)

    late = house.look(path(show))
    snapshot = late.next()
    show.log(3, loss=1.0)

    assert snapshot is not None
    assert snapshot["type"] == "snapshot"
    assert snapshot["data"]["state"]["state"] == "running"
    metrics = snapshot["data"]["metrics"]
    assert {name: (each["value"], each["step"]) for name, each in metrics.items()} == {
        "loss": ("nan", 2),
        "lr": (0.1, 1),
    }
    assert steps(heard(late, 3)) == [3]


def test_a_viewer_who_says_since_misses_nothing_and_gets_nothing_twice(
    house: House, conduct: Conduct
) -> None:
    show = conduct()
    first = house.look(path(show))
    show.do("many", {"first": 1, "last": 1500, "size": 10})
    seen = heard(first, 400)
    seq = seen[-1]["seq"]

    again = house.look(path(show, f"?since_seq={seq}"))
    from_start = house.look(path(show, "?since=0.0"))
    show.do("many", {"first": 1501, "last": 1600, "size": 10})

    assert steps(heard(again, 1600)) == list(range(401, 1601))
    assert steps(heard(from_start, 1600)) == list(range(1, 1601))


def test_a_job_that_ended_is_told_with_its_end(house: House, conduct: Conduct) -> None:
    show = conduct()
    show.log(7, loss=0.5)
    show.do("fail", "out of luck")
    assert show.job.exception(60) is not None

    messages = house.look(path(show)).rest()
    whole = house.look(path(show, "?since=0.0")).rest()

    assert [each["type"] for each in messages] == ["snapshot", "end"]
    assert messages[0]["data"]["metrics"]["loss"]["step"] == 7
    assert messages[1]["data"]["status"] == "failed"
    assert "out of luck" in messages[1]["data"]["error"]
    assert steps(whole) == [7]
    assert whole[-1]["type"] == "end"


def test_metrics_are_chosen_by_name_and_pattern(house: House, conduct: Conduct) -> None:
    show = conduct()
    socket = house.look(path(show, "?metrics=loss,eval/*"))
    show.log(1, loss=1.0, lr=2.0)
    show.log(2, lr=2.0)
    show.log(3, **{"eval/acc": 0.5, "train/acc": 0.7})

    told = [each["data"] for each in heard(socket, 3) if each["type"] == "metrics"]

    assert [(each["step"], each["metrics"]) for each in told] == [
        (1, {"loss": 1.0}),
        (3, {"eval/acc": 0.5}),
    ]


def test_output_is_told_to_who_asks_for_it(house: House, conduct: Conduct) -> None:
    show = conduct()
    socket = house.look(path(show, "?kinds=log"))
    show.log(1, loss=1.0)
    show.do("print", "good morning")

    messages = socket.until("log")

    assert "good morning" in messages[-1]["data"]["text"]
    assert steps(messages) == []


def test_a_rate_sums_up_and_loses_no_metric(house: House, conduct: Conduct) -> None:
    show = conduct()
    socket = house.look(path(show, "?rate=5"))
    socket.until("snapshot")
    show.log(0, lr=0.25)
    show.do("many", {"first": 1, "last": 2000, "size": 0})
    show.do("end")

    told = [each["data"] for each in socket.rest() if each["type"] == "metrics"]

    merged = sum(each.get("merged", 1) for each in told)
    assert merged == 2001
    assert len(told) < 500
    assert told[-1]["step"] == 2000
    assert any(each["metrics"].get("lr") == 0.25 for each in told)


def test_a_viewer_who_does_not_read_is_told_what_it_missed(house: House, conduct: Conduct) -> None:
    show = conduct()
    slow = house.look(path(show), buffer_bytes=4096)
    quick = house.look(path(show))
    show.do("many", {"first": 1, "last": 4000, "size": 2000})
    heard(quick, 4000)
    show.do("end")
    assert show.job.result(60) is None

    messages = slow.rest()

    got = steps(messages)
    assert got == sorted(set(got))
    lags = [each for each in messages if each["type"] == "lagged"]
    assert lags
    assert sum(lag["data"]["skipped"] for lag in lags) == 4000 - len(got)
    after = messages[messages.index(lags[-1]) + 1]
    assert lags[-1]["data"]["next_seq"] == after.get("seq")
    assert messages[-1]["type"] == "end"


def test_a_job_that_nobody_knows_is_said_to_be_unknown(house: House) -> None:
    socket = house.look("/api/v1/jobs/never-was/live")

    assert socket.rest() == []
    assert socket.close_code == 4404
    assert "nobody knows" in socket.close_reason
    answer = house.http().get("/api/v1/jobs/never-was/live")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "query",
    ["?since=yesterday", "?since_seq=-1", "?rate=fast", "?rate=0", "?kinds=loss", "?sinze=0.0"],
    ids=str,
)
def test_a_question_that_makes_no_sense_is_refused(
    house: House, conduct: Conduct, query: str
) -> None:
    show = conduct()

    with pytest.raises(InvalidStatus) as refused:
        house.look(path(show, query))

    assert refused.value.response.status_code == 400
    answer = house.http().get(path(show, query))
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_without_a_token_nobody_looks(house: House, conduct: Conduct) -> None:
    show = conduct()

    with pytest.raises(InvalidStatus) as refused:
        house.look(path(show), token="wrong")

    assert refused.value.response.status_code == 401
    assert house.http("wrong").get(path(show)).status_code == 401


# --- server-sent events ---


def sent(lines: Iterator[str]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Id and data of each event."""
    name: str | None = None
    for line in lines:
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])
            name = None


def test_events_are_sent_over_http_and_go_on_where_they_broke_off(
    house: House, conduct: Conduct
) -> None:
    show = conduct()
    http = house.http()
    with http.stream("GET", path(show)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = sent(answer.iter_lines())
        assert next(events)[1]["type"] == "snapshot"
        show.do("many", {"first": 1, "last": 50, "size": 0})
        last_id = next(name for name, data in events if steps([data]) == [20])

    show.do("end")
    headers = {"Last-Event-ID": str(last_id)}
    with http.stream("GET", path(show), headers=headers) as answer:
        rest = list(sent(answer.iter_lines()))

    assert rest[0][1]["type"] == "snapshot"
    assert steps([data for _, data in rest]) == list(range(21, 51))
    assert rest[-1][0] == "end"
    assert rest[-1][1]["data"]["status"] == "succeeded"
    done = http.get(path(show), headers={"Last-Event-ID": "end"})
    assert done.status_code == 204


def test_a_reader_who_leaves_is_forgotten(house: House, conduct: Conduct) -> None:
    show = conduct()
    client_count = _clients(house.http())
    with house.http().stream("GET", path(show)) as answer:
        next(sent(answer.iter_lines()))
        socket = house.look(path(show))
        socket.until("snapshot")
        # All viewers of a job share one watch of it.
        assert _clients(house.http()) == client_count + 1

    socket.connection.close()

    until(lambda: _clients(house.http()) == client_count, what="nobody watches", within_s=10)


def _clients(http: httpx.Client) -> int:
    count: int = http.get("/api/v1/info").json()["clients"]
    return count


def test_any_number_of_viewers_looks_on_from_one_address(house: House, conduct: Conduct) -> None:
    show = conduct()
    request = (
        f"GET {path(show)} HTTP/1.1\r\nHost: 127.0.0.1:{house.farm.port}\r\n"
        f"Authorization: Bearer {house.token}\r\n\r\n"
    ).encode()

    def look() -> sockets.socket:
        viewer = stack.enter_context(sockets.create_connection(("127.0.0.1", house.farm.port), 20))
        viewer.sendall(request)
        return viewer

    with ExitStack() as stack:
        until(lambda: look().recv(12) == b"HTTP/1.1 200", what="the job is known")
        answers = [viewer.recv(12) for viewer in [look() for _ in range(100)]]
        # And more of them than there may be strangers.
        answers += [look().recv(12) for _ in range(200)]

        assert Counter(answers) == {b"HTTP/1.1 200": 300}
