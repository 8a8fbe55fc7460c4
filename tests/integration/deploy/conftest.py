from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.deploy.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    shop.home.mkdir()
    yield shop
    shop.end()
