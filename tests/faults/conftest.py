from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm


@pytest.fixture
def empty_farm(tmp_path: Path) -> Iterator[Farm]:
    """A coordinator; the test starts its workers."""
    with farm(tmp_path / "farm") as made:
        yield made
