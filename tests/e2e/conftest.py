from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm


@pytest.fixture
def empty_farm(tmp_path: Path) -> Iterator[Farm]:
    """A coordinator; the test starts its workers."""
    with farm(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A coordinator and two workers with two slots each, shared by a module's tests."""
    with farm(tmp_path_factory.mktemp("farm"), "first_workers_s=0") as made:
        made.start_worker("w1", "--slots", "2", "--tags", "one")
        made.start_worker("w2", "--slots", "2", "--tags", "two")
        with made.client() as client:
            made.until_ready(client)
        yield made
