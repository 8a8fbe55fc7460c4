"""One coordinator and one worker for all tests of the REST interface."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from tests.e2e.farm import Farm, farm

from lineshaft import Client
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.secrets import SecretBox
from lineshaft_coordinator.finetune.server import TrainingServer
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.recorder.supervisor import Recorder
from lineshaft_coordinator.server.actions import DaemonActions
from lineshaft_coordinator.server.admission import Gate, Tokens
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.server.parts import Parts, application
from lineshaft_coordinator.server.upkeep import Upkeep
from lineshaft_coordinator.settings import CoordinatorSettings
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_coordinator.training_runs.models import ModelLimits
from lineshaft_coordinator.training_runs.server import TrainingRuns

MODELS_BYTES_MAX = 5 << 20
BLOB_BYTES_MAX = 2 << 20
"""How long an upload to the coordinator of `whole` may be."""


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


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[tuple[Starlette, Gate]]:
    """All that answers on the port of a coordinator, put together as it does."""
    settings = CoordinatorSettings(
        data=tmp_path / "data", home=tmp_path / "home", blob_bytes_max=BLOB_BYTES_MAX
    )
    store = SqliteStore(settings.data)
    epoch = await store.open()
    blobs = BlobStore(tmp_path / "blobs", blob_bytes_max=BLOB_BYTES_MAX, total_bytes_max=1 << 20)
    secrets = SecretBox(settings.data)
    daemon = Daemon(store, blobs, secrets, epoch=epoch, settings=CoreSettings())
    jobs = daemon.core.shop.ledger.jobs
    upkeep = Upkeep(store, blobs, daemon.room, jobs, keep_finished_s=1.0)
    actions = DaemonActions(settings.data, daemon, upkeep)
    training = TrainingServer(TrainingSettings(), settings.data, daemon, blobs, actions)
    runs = TrainingRuns(
        settings.data,
        daemon.questions,
        daemon.job_source,
        daemon.feeds,
        actions.cancel,
        limits=ModelLimits(settings.blob_bytes_max, MODELS_BYTES_MAX),
    )
    # Nobody has started it: questions about runs come to their end at once.
    recorder = Recorder(settings.data, daemon.core.shop.ledger, has_past=False, answer_s=0.01)
    tokens = Tokens(settings.data, "local")
    gate = Gate(tokens, daemon.sessions, is_loopback=True)
    parts = Parts(daemon, blobs, actions, training, runs, None, recorder)
    yield application(settings, parts, tokens, gate), gate
    await runs.close()
    await store.close()


@pytest.fixture
def routes(whole: tuple[Starlette, Gate]) -> list[Route]:
    """All endpoints of a coordinator."""
    return [cast("Route", route) for route in whole[0].routes]
