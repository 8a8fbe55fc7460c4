"""Streams that stand still: nobody piles up what they would carry, or waits for them."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.farm import Farm, until
from tests.e2e.memory_watch import Watch

from lineshaft import Client
from lineshaft.pipeline import Pipeline

MIB = 1 << 20
CHUNK_COUNT = 320
GROWN_BYTES_MAX = 160 * MIB
"""A window each way of 16 MiB, frames in two queues, and what a daemon keeps of freed memory; half
of what the stream carries."""
STILL_S = 1.0
CONTROL_COUNT = 20
CONTROL_S_MAX = 20.0
"""Ten times what so many questions and calls take on a machine with other work."""


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


class Source:
    """Gives chunks as fast as they are taken, and knows whether anybody takes them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.given = 0
        self._last = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._count):
            self.given += 1
            self._last = time.monotonic()
            yield os.urandom(4096) * (MIB // 4096)

    @property
    def is_still(self) -> bool:
        return self.given > 0 and time.monotonic() - self._last > STILL_S


def runners(farm: Farm) -> list[int]:
    """The processes that run user code, of all workers."""
    children = [
        child
        for worker in farm.workers.values()
        for child in psutil.Process(worker.pid).children(recursive=True)
    ]
    return [child.pid for child in children if "lineshaft_worker.runner" in child.cmdline()]


def test_no_process_piles_up_what_a_slow_worker_does_not_take(
    pair: Farm, client: Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def wait_for_gate(x, gate=str(gate)):
        import os
        import signal

        while not os.path.exists(gate):
            signal.sigtimedwait((), 0.01)
        return x

    slow = Pipeline([("wait", wait_for_gate)])
    source = Source(CHUNK_COUNT)
    stream = client.stream(slow, source)
    until(lambda: source.given > 1 and runners(pair), what="a runner has begun")
    pids = {"client": os.getpid()}
    pids |= {f"runner {pid}": pid for pid in runners(pair)}
    pids |= {name: worker.pid for name, worker in pair.workers.items()}
    watches = {name: Watch(pid) for name, pid in pids.items()}
    before = {name: watch.now_bytes() for name, watch in watches.items()}
    for watch in watches.values():
        watch.start()

    until(lambda: source.is_still, what="the source waits", within_s=60)
    gate.touch()
    assert sum(len(chunk) for chunk in stream) == CHUNK_COUNT * MIB

    grown = {name: (watch.stop() - before[name]) // MIB for name, watch in watches.items()}
    assert {name for name, grown_mib in grown.items() if grown_mib * MIB > GROWN_BYTES_MAX} == set()
    assert len(grown) >= 4


def test_who_never_reads_a_stream_holds_up_nothing_else_on_its_connection(client: Client) -> None:
    source = Source(CHUNK_COUNT)
    unread = client.stream(Pipeline([("same", lambda x: x)]), source)
    until(lambda: source.is_still, what="both windows are full", within_s=60)
    assert source.given < CHUNK_COUNT

    begun = time.monotonic()
    for number in range(CONTROL_COUNT):
        assert client.submit(pow, number, 2).result(CONTROL_S_MAX) == number**2
    sizes: list[int] = []
    other = client.stream(Pipeline([("same", lambda x: x)]), Source(4))
    # In a thread: what is held up would be waited for without an end.
    reading = threading.Thread(target=lambda: sizes.extend(map(len, other)), daemon=True)  # type: ignore[arg-type]
    reading.start()
    reading.join(CONTROL_S_MAX)
    took_s = time.monotonic() - begun
    unread.close()

    assert sizes == [MIB] * 4
    assert took_s < CONTROL_S_MAX
