"""Questions about runs while somebody looks into a table that takes its time."""

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import until

from lineshaft_coordinator.recorder.answers import Answers
from lineshaft_coordinator.recorder.lanes import LOOKS_MAX, Lanes


class Asked:
    """Lanes, and what they answered."""

    def __init__(self, base: Path) -> None:
        self.heads: dict[int, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._answers = Answers(base, {}, {})
        self.lanes = Lanes(self._answers, self._note)

    def _note(self, head: Mapping[str, Any], body: bytes) -> None:
        assert self._lock.acquire(blocking=False), "two answers are sent at once"
        self.heads[head["id"]] = {**head, "body": body}
        self._lock.release()

    def ask(self, number: int, what: str, **about: object) -> None:
        self.lanes.ask({"id": number, "ask": what, "with": about})

    def close(self) -> None:
        self.lanes.close()
        self._answers.close()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    found = Asked(tmp_path)
    yield found
    found.close()


def slow_table(path: Path) -> Path:
    """A table whose end does not come until somebody writes it."""
    os.mkfifo(path)
    return path


def is_written(path: Path) -> bool:
    """Write it, if somebody reads it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(descriptor, b"a\n1\n")
    os.close(descriptor)
    return True


def test_a_slow_preview_holds_nobody_up(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineshaft_coordinator.recorder.lanes.WAIT_S", 1e9)
    tables = [slow_table(tmp_path / f"{number}.csv") for number in range(LOOKS_MAX)]
    for number, table in enumerate(tables):
        asked.ask(number, "preview", path=str(table), name="slow.csv")

    asked.ask(100, "runs")
    asked.ask(101, "preview", path="one too many", name="x.csv")
    until(lambda: {100, 101} <= asked.heads.keys(), what="the list of runs")

    assert asked.heads[100]["body"] == b"[]"
    assert asked.heads[101]["status"] == 503
    assert len(asked.heads) == 2, "all others still wait"
    for table in tables:
        until(lambda table=table: is_written(table), what="it is read")
    until(lambda: len(asked.heads) == 2 + LOOKS_MAX, what="all are shown")
    assert all("error" not in asked.heads[number] for number in range(LOOKS_MAX))
    asked.ask(102, "preview", path=str(tmp_path / "nowhere.csv"), name="x.csv")
    until(lambda: 102 in asked.heads, what="there is room again")
    assert asked.heads[102]["status"] == 400


def test_a_look_that_waited_for_long_is_refused(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineshaft_coordinator.recorder.lanes.WAIT_S", -1.0)

    asked.ask(1, "preview", path=str(tmp_path / "nowhere.csv"), name="x.csv")

    until(lambda: 1 in asked.heads, what="an answer")
    assert asked.heads[1]["status"] == 503
    assert "try again" in asked.heads[1]["error"]
