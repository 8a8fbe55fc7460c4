"""Load for long, and viewers who never read: what the coordinator holds stays as it was."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm, until
from tests.e2e.memory_watch import Watch
from tests.faults.scale import rounds, tell
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lineshaft import Client, run

MIB = 1 << 20
WAVE = 200
BEFORE = 2
"""So many waves fill caches first, of Python, of SQLite and of the allocator."""
MUTE = 20
GROWN_BYTES_MAX = 32 * MIB
"""The page cache of SQLite fills, and what is known of jobs that ended: some 20,000 jobs later it
is full, after 26 MiB. So it is the night's number of tasks that shows a leak; by day the open
files do. Both were seen to, see `planted.py`: 40,000 jobs that are all kept whole take 150 MiB,
and a file that each submit leaves open makes 1,645 out of 445."""
MORE_FILES_MAX = 8


def nothing(number: int) -> int:
    return number


def talk(until_there: str) -> None:
    """Say a number a thousand times a second until the file is there."""
    pause, step = threading.Event(), 0
    while not Path(until_there).exists():
        step += 1
        run.log({"loss": 1 / step, "name": "x" * 200}, step=step)
        pause.wait(0.001)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Farm]:
    with farm(tmp_path / "farm") as made:
        made.start_worker("w1", "--slots", "2")
        yield made


def live(house: Farm, job_id: str) -> ClientConnection:
    token = (house.home / "token").read_text().strip()
    return connect(
        f"{house.url}/api/v1/jobs/{job_id}/live?token={token}",
        max_queue=1,
        ping_interval=None,
        # Who never reads sees no goodbye either: each would wait 10 s for it, one after another.
        close_timeout=0,
    )


class Reader(threading.Thread):
    """A viewer who takes everything."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(daemon=True)
        self._socket = socket
        self.step = 0
        self.is_ended = False

    def run(self) -> None:
        try:
            for text in self._socket:
                message = json.loads(text)
                if message["type"] == "metrics":
                    self.step = message["data"]["step"]
                self.is_ended |= message["type"] == "end"
        except ConnectionClosed:
            return


def test_memory_and_files_of_the_coordinator_are_flat_under_load_and_mute_viewers(
    house: Farm, tmp_path: Path
) -> None:
    assert house.coordinator is not None
    over = tmp_path / "over"
    waves = rounds(6, 2_000)
    with house.client() as client, ExitStack() as stack:
        house.until_ready(client)
        job = client.submit(talk, str(over))
        for _ in range(MUTE):
            stack.enter_context(live(house, job.id))  # It never reads.
        reader = Reader(stack.enter_context(live(house, job.id)))
        reader.start()
        load(client, BEFORE)
        watch = Watch(house.coordinator.pid)
        before_bytes, before_files = watch.now_bytes(), watch.files()
        watch.start()

        load(client, waves)

        grown_bytes = watch.stop() - before_bytes
        assert grown_bytes < GROWN_BYTES_MAX
        assert watch.files() <= before_files + MORE_FILES_MAX
        later = reader.step + 100
        until(lambda: reader.step > later, what="the one who reads is told what is new")
        over.touch()
        until(lambda: reader.is_ended, what="and the end")
    tell(
        "F31",
        f"task beside {MUTE} viewers who never read",
        waves * WAVE,
        f"memory of the coordinator grew by {grown_bytes / MIB:.0f} MiB, no file was left open",
    )


def load(client: Client, waves: int) -> None:
    for _ in range(waves):
        assert list(client.map(nothing, range(WAVE))) == list(range(WAVE))
