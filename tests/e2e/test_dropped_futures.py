"""Futures that nobody has any more cost the coordinator nothing; the others are told all."""

import gc
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tests.e2e.farm import DEADLINE_S, Farm, until

from lineshaft import Client

DROPPED = 1000


class Watched:
    """A farm whose coordinator says how many jobs are watched."""

    def __init__(self, made: Farm, said: Path) -> None:
        self.farm, self._said = made, said

    def count(self) -> int:
        """How many jobs all clients together watch now."""
        assert self.farm.coordinator is not None
        self._said.unlink(missing_ok=True)
        self.farm.coordinator.popen.send_signal(signal.SIGUSR1)
        until(self._said.exists, what="the coordinator says how many")
        return int(self._said.read_text())


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made, port_file = Farm(tmp_path / "farm"), tmp_path / "port"
    made.folder.mkdir()
    said = tmp_path / "watched"
    script = str(Path(__file__).with_name("watched_coordinator.py"))
    command = [script, str(said), "--listen", "127.0.0.1:0", "--port-file", str(port_file)]
    command += ["--data", str(made.folder / "data")]
    try:
        made.coordinator = made.start("coordinator", *command)
        until(port_file.exists, what="the coordinator listens")
        made.port = int(port_file.read_text())
        yield Watched(made, said)
    finally:
        made.close()


def note(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return number


def test_dropped_futures_are_not_watched_and_a_held_one_gets_its_result(
    watched: Watched, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    with watched.farm.client() as client:
        futures = [client.submit(note, str(ran), number) for number in range(DROPPED + 1)]
        until(lambda: watched.count() == DROPPED + 1, what="all are watched")

        held = futures.pop()
        futures.clear()
        gc.collect()
        until(lambda: watched.count() == 1, what="only what is held is watched")
        watched.farm.start_worker("w1", "--slots", "2")

        assert held.result(DEADLINE_S) == DROPPED
        until(lambda: watched.count() == 0, what="nothing is watched")
        until(
            lambda: sorted(map(int, ran.read_text().split())) == list(range(DROPPED + 1)),
            what="each ran once, whether its future was kept or not",
        )


def test_who_registered_a_callback_is_called_though_he_keeps_no_future(
    watched: Watched,
) -> None:
    told: list[Future[Any]] = []
    called = Event()

    def tell(future: Future[Any]) -> None:
        told.append(future)
        called.set()

    with watched.farm.client() as client:
        client.submit(os.getpid).add_done_callback(tell)
        gc.collect()
        watched.farm.start_worker("w1", "--slots", "1")

        assert called.wait(DEADLINE_S)
        assert isinstance(told[0].result(0), int)


def test_a_job_whose_future_is_dropped_at_once_is_kept_and_run(
    watched: Watched, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    with watched.farm.client() as client:
        for number in range(20):
            client.submit(note, str(ran), number)
        # Closing the client waits until the coordinator has them.
    watched.farm.start_worker("w1", "--slots", "1")

    until(lambda: ran.exists() and len(ran.read_text().split()) == 20, what="all ran")


def test_a_job_is_waited_for_by_its_id_right_after_its_future_was_dropped(
    watched: Watched,
) -> None:
    watched.farm.start_worker("w1")
    with watched.farm.client() as client:
        for number in range(100):
            job = client.job(client.submit(pow, number, 2).id)
            assert job.result(20) == number**2


def test_events_can_be_listened_to_again_after_they_were_left(watched: Watched) -> None:
    def listen(client: Client, job_id: str) -> list[str]:
        return [type(event).__name__ for event in client.job(job_id).events()]

    with watched.farm.client() as client:
        job = client.run("job.py", files={"job.py": "print('one')"})
        stream = job.events()
        next(stream)
        assert watched.count() == 1
        stream.close()
        del stream
        watched.farm.start_worker("w1", "--slots", "1")
        job.result(DEADLINE_S)

        first, again = listen(client, job.id), listen(client, job.id)

        assert first == again
        assert "Log" in first
        until(lambda: watched.count() == 0, what="nothing is watched")
