"""What a program with an event loop of its own does with real daemons."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from tests.integration.client.conftest import Shop

from lineshaft import AsyncClient, Pipeline
from lineshaft.errors import ClientClosedError
from lineshaft.job_events import Finished, Log, State

WAIT_S = 30.0


def add(a: int, b: int = 1) -> int:
    return a + b


def wait_for(path: str) -> str:
    import time  # noqa: PLC0415 - on the worker
    from pathlib import Path as Remote  # noqa: PLC0415 - likewise

    deadline_s = time.monotonic() + 60  # For a test that fails before it opens the gate.
    while not Remote(path).exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return path


class Scale:
    """Learns the mean; shipped by value, as no worker has this module."""

    def fit(self, x: np.ndarray, y: object = None) -> float:
        return float(np.mean(x))

    def forward(self, x: np.ndarray, state: float) -> np.ndarray:
        return x - state


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(shop.url, token=shop.token) as made:
        yield made


async def test_a_job_is_awaited(client: AsyncClient) -> None:
    assert await client.submit(add, 1, b=2) == 3
    assert await asyncio.gather(*(client.submit(add, i) for i in range(10))) == list(range(1, 11))


async def test_a_map_is_in_order(client: AsyncClient) -> None:
    assert [each async for each in client.map(add, range(10))] == list(range(1, 11))
    assert [each async for each in client.map(add, range(10), chunksize=3)] == list(range(1, 11))


async def test_who_stops_waiting_does_not_stop_the_job(client: AsyncClient, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = client.submit(wait_for, str(gate))

    with pytest.raises(TimeoutError):
        await job.result(0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job, 0.05)
    gate.touch()

    assert await job == str(gate)


async def test_a_pipeline_is_fitted_and_used_on_workers(client: AsyncClient) -> None:
    x = np.arange(100_000, dtype=np.float64)

    fitted = await client.fit(Pipeline([("scale", Scale()), ("double", lambda v: v * 2)]), x)
    output = await client.forward(fitted, x)

    assert isinstance(output, np.ndarray)
    assert np.array_equal(output, (x - x.mean()) * 2)


async def test_two_readers_see_the_same_events_each_from_the_beginning(
    client: AsyncClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    source = (
        "import pathlib, time\n"
        "def main(path):\n"
        "    print('first', flush=True)\n"
        "    while not pathlib.Path(path).exists():\n"
        "        time.sleep(0.02)\n"
        "    print('second', flush=True)\n"
    )
    job = client.run("work.py:main", files={"work.py": source}, params={"path": str(gate)})

    async with aclosing(job.events()) as events:
        async for event in events:
            if isinstance(event, Log) and "first" in event.text:
                break
        late = asyncio.create_task(_collect(job.events()))
        gate.touch()
        rest = [event async for event in events]

    seen = await asyncio.wait_for(late, WAIT_S)
    assert "first" in _text(seen)
    assert "second" in _text(seen)
    assert isinstance(seen[-1], Finished)
    assert "first" not in _text(rest)
    assert "second" in _text(rest)
    assert any(isinstance(event, State) for event in seen + rest) or rest


async def test_closing_leaves_nobody_waiting(shop: Shop, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    client = await AsyncClient(shop.url, token=shop.token).connect()
    job = client.submit(wait_for, str(gate))
    waiting = asyncio.create_task(job.result())
    reading = asyncio.create_task(_collect(job.events()))
    await asyncio.sleep(0)

    await client.close()

    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(waiting, WAIT_S)
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(reading, WAIT_S)
    with pytest.raises(ClientClosedError):
        client.submit(add, 1)
    gate.touch()


async def _collect(events: AsyncIterator[object]) -> list[object]:
    return [event async for event in events]


def _text(events: list[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, Log))
