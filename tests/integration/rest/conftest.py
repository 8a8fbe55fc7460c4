"""One coordinator and one worker for all tests of the REST interface."""

from collections.abc import Iterator

import httpx
import pytest
from tests.e2e.farm import Farm, farm

from lineshaft import Client
from lineshaft_coordinator.server.admission import Tokens


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("plant")) as made:
        made.start_worker("w1", "--slots", "2", "--tags", "listed,lap0,lap1")
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture
def client(plant: Farm) -> Iterator[Client]:
    with plant.client() as client:
        yield client


@pytest.fixture(scope="session")
def tokens(plant: Farm) -> Tokens:
    return Tokens(plant.folder / "data", (plant.home / "token").read_text().strip())


@pytest.fixture(scope="session")
def http(plant: Farm) -> Iterator[httpx.Client]:
    """Asks with the local token."""
    token = (plant.home / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{plant.port}", headers=headers, timeout=30
    ) as made:
        yield made


@pytest.fixture(scope="session")
def stranger(plant: Farm) -> Iterator[httpx.Client]:
    """Asks without a token."""
    with httpx.Client(base_url=f"http://127.0.0.1:{plant.port}", timeout=30) as made:
        yield made
