from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.store.moving_bench import Bench

from lineshaft_coordinator.server.blob_room import moving
from lineshaft_coordinator.store.interface import Store
from lineshaft_coordinator.store.sqlite import SqliteStore

Opener = Callable[[], Store]
"""Names the same store each time, for opening it again."""


@pytest.fixture(params=["sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """One for each engine; a new engine is one more parameter."""
    assert request.param == "sqlite"
    return lambda: SqliteStore(tmp_path / "data")


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    opened = opener()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "data").mkdir()
    (tmp_path / "store").mkdir()
    bench = Bench(tmp_path / "data", tmp_path / "store")
    await bench.mover.claim()
    async with moving(bench.mover):
        yield bench
