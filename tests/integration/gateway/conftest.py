"""One coordinator with one worker for all tests of the gateway."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from tests.integration.environments.wheels import make_wheel
from tests.integration.gateway.seed_bench import Processes, SeedPeer, Town, seed_peer
from tests.integration.gateway.seed_filters import pickles

from lineshaft_coordinator.server.admission import Tokens


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    home = tmp_path_factory.mktemp("town")
    processes = Processes(home)
    data, port_file, local = home / "data", home / "port", home / "token"
    try:
        processes.start(
            "lineshaft_coordinator", "--data", str(data), "--listen", "127.0.0.1:0",
            "--port-file", str(port_file),
        )  # fmt: skip
        port = int(processes.wait_for(lambda: port_file.exists() and port_file.read_text()))
        local_token = local.read_text().strip()
        tokens = Tokens(data, local_token)
        secrets = [tokens.create(role)[1] for role in ("client", "client", "worker")]
        town = Town(port, secrets[0], secrets[1], local_token, secrets[2])
        make_wheel(home / "packages", "lsseed", "1.5")
        processes.start(
            "lineshaft_worker", "--name", "w1", "--slots", "4", "--tags", "gpu",
            "--find-links", str(home / "packages"),
        )  # fmt: skip
        processes.wait_for(lambda: json.loads(town.http("/workers", token=local_token)[1]))
        yield town
    finally:
        processes.stop()


@pytest.fixture(scope="session")
def filters() -> Mapping[str, str]:
    return pickles()


@pytest.fixture
async def peer(town: Town) -> AsyncIterator[SeedPeer]:
    async with seed_peer(town.url()) as peer:
        yield peer


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parents[2] / "contract" / "golden"
