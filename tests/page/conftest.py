"""A farm and a browser for all tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm
from tests.page.browser import Browser, find_chromium

from lineshaft_coordinator.server.admission import Tokens


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("page")) as made:
        made.start_worker("box-1", "--slots", "3")
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("looks at the page in Chromium, which is not installed (Debian: chromium)")
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(shop: Farm, tab: Browser) -> Iterator[Browser]:
    """The page, opened anew; a script that raised fails the test."""
    tab.errors.clear()
    tab.resize(1280)
    token = (shop.home / "token").read_text().strip()
    # An address that differs in its fragment only would load nothing.
    tab.open("about:blank")
    tab.open(f"http://127.0.0.1:{shop.port}/#token={token}")
    yield tab
    assert tab.errors == []


@pytest.fixture
def seen(shop: Farm, tab: Browser) -> Iterator[Browser]:
    """The page, opened with a viewer's token."""
    tab.errors.clear()
    tab.resize(1280)
    local = (shop.home / "token").read_text().strip()
    secret = Tokens(shop.folder / "data", local).create("viewer")[1]
    tab.open("about:blank")
    tab.open(f"http://127.0.0.1:{shop.port}/#token={secret}")
    yield tab
    assert tab.errors == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return tmp_path
