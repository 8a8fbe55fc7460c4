"""Who may scrape."""

from pathlib import Path
from typing import cast

import httpx
import pytest
from starlette.applications import Starlette

from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.metrics.meter import Meter
from lineshaft_coordinator.metrics.routes import MetricsRoutes
from lineshaft_coordinator.server.admission import Gate, Tokens
from lineshaft_coordinator.server.guard import Guard
from lineshaft_coordinator.server.sessions import Sessions


def scraper(folder: Path, *, is_loopback: bool) -> tuple[httpx.AsyncClient, Tokens]:
    tokens = Tokens(folder, "the-local-token")
    # No session is opened here.
    gate = Gate(tokens, cast("Sessions", None), is_loopback=is_loopback)
    shop = Shop(CoreSettings(), Ledger(), epoch=1, started_at=0.0, now=0.0)
    routes = MetricsRoutes(
        shop,
        Meter(),
        Guard(tokens, gate),
        data=folder,
        blob_bytes=lambda: 7,
        drops=lambda: 3,
        is_loopback=is_loopback,
    )
    transport = httpx.ASGITransport(app=Starlette(routes=routes.routes()))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost"), tokens


async def test_on_the_network_a_scraper_needs_a_token(tmp_path: Path) -> None:
    client, tokens = scraper(tmp_path, is_loopback=False)
    _, secret = tokens.create("client")
    _, workers = tokens.create("worker")

    async with client:
        given = {None: 401, "wrong": 401, workers: 403, secret: 200, "the-local-token": 200}
        for token, status in given.items():
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            assert (await client.get("/metrics", headers=headers)).status_code == status


@pytest.mark.parametrize("name", ["lineshaft_blob_bytes 7", "lineshaft_ws_dropped_total 3"])
async def test_on_loopback_it_needs_none(tmp_path: Path, name: str) -> None:
    client, _ = scraper(tmp_path, is_loopback=True)

    async with client:
        answer = await client.get("/metrics")

    assert name in answer.text.splitlines()
