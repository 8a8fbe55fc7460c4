"""What jobs print: live, for each attempt, by page, and lossless for a reader of any speed."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import Farm, until

from lineshaft import Client, errors


def speak(lines: int, *, fails: bool = False) -> None:
    import sys

    for number in range(lines):
        print(f"out {number}", flush=True)
        print(f"err {number}", file=sys.stderr, flush=True)
    if fails:
        raise RuntimeError("as asked")


def speak_until(gate: str) -> None:
    import os
    import signal

    print("early", flush=True)
    while not os.path.exists(gate):
        signal.sigtimedwait((), 0.02)
    print("late", flush=True)


def draw_bar(steps: int) -> None:
    """Draw with tqdm where it is installed, else as it does."""
    import sys

    try:
        from tqdm import tqdm
    except ImportError:
        print("start", file=sys.stderr)
        for step in range(steps + 1):
            sys.stderr.write(
                f"\r{100 * step // steps:3d}%|{'#' * (step * 10 // steps):10}| {step}/{steps}"
            )
            sys.stderr.flush()
    else:
        print("start", file=sys.stderr)
        for _ in tqdm(range(steps), mininterval=0):
            pass
    raise RuntimeError("as asked")


def speak_in_bytes(count: int) -> None:
    import os
    import sys

    sys.stdout.flush()
    for _ in range(count):
        os.write(1, b"\0" * 65536)


def flood(lines: int) -> None:
    import sys

    text = "x" * 60
    for number in range(lines):
        sys.stdout.write(f"{number} {text}\n")


def get(farm: Farm, path: str) -> Any:
    token = (farm.home / "token").read_text().strip()
    url = f"{farm.url.replace('ws:', 'http:')}/api/v1/jobs/{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_output_is_read_by_attempt_stream_and_tail(pair: Farm) -> None:
    with pair.client() as client:
        job = client.job(client.options(retries=1, backoff=0.0).submit(speak, 3, fails=True).id)
        assert isinstance(job.exception(60), RuntimeError)

        both = "".join(job.logs(stream="stdout"))
        second = "".join(job.logs(attempt=2, stream="stderr", follow=False))
        tail = "".join(job.logs(stream="stdout", tail=2, follow=False))
        crossing = "".join(job.logs(stream="stdout", tail=4))
        none = "".join(job.logs(attempt=3, follow=False))

    lines = "out 0\nout 1\nout 2\n"
    assert both == lines * 2
    assert "err 0\nerr 1\nerr 2\n" in second
    assert tail == "out 1\nout 2\n"
    assert crossing == "out 2\n" + lines
    assert none == ""


def test_following_one_attempt_ends_with_it(pair: Farm, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with pair.client() as client:
        job = client.job(client.submit(speak_until, str(gate)).id)
        pieces = job.logs(attempt=1)

        first = next(pieces)
        gate.touch()

        assert first + "".join(pieces) == "early\nlate\n"
        assert "".join(client.job(job.id).logs(tail=1, attempt=1)) == "late\n"


@pytest.mark.parametrize("wanted", [{"attempt": 0}, {"stream": "both"}, {"tail": 0}])
def test_output_that_cannot_be_is_refused_by_name(pair: Farm, wanted: dict[str, Any]) -> None:
    with pair.client() as client, pytest.raises(ValueError, match=next(iter(wanted))):
        list(client.job("j1").logs(**wanted))


def test_pages_over_http_give_all_output_and_then_say_that_it_is_complete(pair: Farm) -> None:
    with pair.client() as client:
        job = client.job(client.submit(speak, 200).id)
        job.result(60)

    text, offset, pages = "", "0.0", 0
    while True:
        page = get(pair, f"{job.id}/logs?stream=stdout&limit=500&offset={offset}")
        text += "".join(piece["text"] for piece in page["pieces"])
        offset, pages = page["offset"], pages + 1
        if page["is_complete"]:
            break

    assert text == "".join(f"out {number}\n" for number in range(200))
    assert pages < 210
    tail = get(pair, f"{job.id}/logs?stream=stderr&tail=2")
    assert "".join(piece["text"] for piece in tail["pieces"]) == "err 198\nerr 199\n"


def test_a_reader_over_http_waits_until_something_is_printed(pair: Farm, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with pair.client() as client:
        job = client.job(client.submit(speak_until, str(gate)).id)
        next(job.logs())
        first = get(pair, f"{job.id}/logs?wait=60")
        gate.touch()
        second = get(pair, f"{job.id}/logs?wait=60&offset={first['offset']}")
        job.result(60)
        last = get(pair, f"{job.id}/logs?wait=60&offset={second['offset']}")

    assert [piece["text"] for piece in first["pieces"]] == ["early\n"]
    assert [piece["text"] for piece in second["pieces"]] == ["late\n"]
    assert (last["pieces"], last["is_complete"]) == ([], True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nobody/logs", 404),
        ("nobody/events", 404),
        ("j/logs?stream=both", 400),
        ("j/logs?offset=end", 400),
        ("j/logs?tail=10001", 400),
        ("j/logs?wait=61", 400),
    ],
)
def test_bad_questions_over_http_are_refused(pair: Farm, path: str, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(pair, path)

    with caught.value as answer:
        assert (answer.code, "error" in json.load(answer)) == (status, True)


def test_the_last_lines_of_a_failure_show_a_bar_as_it_was_last(pair: Farm) -> None:
    with pair.client() as client:
        job = client.job(client.submit(draw_bar, 300).id)
        job.exception(60)
        (outcome,) = [
            record["outcome"] for record in until(lambda: job.story()) if "outcome" in record
        ]

    start, bar = outcome["failure"]["last_lines"]
    assert start == "start"
    assert bar.startswith("100%|")
    assert "300/300" in bar
    assert "\r" not in bar


def test_bytes_that_take_six_characters_each_on_the_wire_arrive(pair: Farm) -> None:
    with pair.client() as client:
        job = client.job(client.submit(speak_in_bytes, 64).id)

        assert "".join(job.logs()).count("\0") == 64 * 65536


def test_output_of_a_job_whose_coordinator_was_away_arrives_whole(
    empty_farm: Farm, tmp_path: Path
) -> None:
    farm, gate = empty_farm, tmp_path / "gate"

    def flood_behind(gate: str) -> None:
        import os
        import signal

        print("early", flush=True)
        while not os.path.exists(gate):
            signal.sigtimedwait((), 0.02)
        flood(200_000)
        print("done", flush=True)
        os.rename(gate, gate + ".done")
        while not os.path.exists(gate):
            signal.sigtimedwait((), 0.02)

    farm.start_worker("w1", "--slots", "1")
    with farm.client() as client:
        farm.until_ready(client)
        job = client.job(client.submit(flood_behind, str(gate)).id)
        assert next(job.logs()) == "early\n"
    assert farm.coordinator is not None
    farm.coordinator.kill()
    gate.touch()
    until(lambda: not gate.exists(), what="it printed all")
    farm.start_coordinator()
    gate.touch()

    with farm.client() as client:
        text = "".join(client.job(job.id).logs())

    assert text.splitlines() == [
        "early",
        *(f"{number} {'x' * 60}" for number in range(200_000)),
        "done",
    ]


def test_a_job_that_nobody_knows_has_no_logs(pair: Farm) -> None:
    with pair.client() as client:
        for follow in (False, True):
            with pytest.raises(errors.LineshaftError, match="no"):
                list(Client.job(client, "nobody").logs(follow=follow))
