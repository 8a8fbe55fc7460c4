"""Coordinators as processes, each in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Farm]:
    """Nothing runs in it until the test starts it."""
    made = Farm(tmp_path)
    try:
        yield made
    finally:
        made.close()
