from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.store.moving_bench import Bench

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
    async with Bench.running(tmp_path) as bench:
        yield bench
