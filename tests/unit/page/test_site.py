"""The page's files: what comes with them, and what does not come at all."""

from importlib import resources

import httpx
import pytest
from starlette.applications import Starlette

from lineshaft_coordinator.page.site import Site


@pytest.fixture
def browser() -> httpx.AsyncClient:
    app = httpx.ASGITransport(Starlette(routes=Site().routes()))
    return httpx.AsyncClient(transport=app, base_url="http://here")


async def test_the_page_may_load_and_ask_its_own_coordinator_only(
    browser: httpx.AsyncClient,
) -> None:
    for path in ("/", "/assets/main.js", "/assets/vendor/uplot.js"):
        headers = (await browser.get(path)).headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        # Addresses of blobs are made by scripts, and those are ours alone.
        assert (policy["img-src"], policy["media-src"]) == ("'self' data: blob:", "blob:")
        assert not {"frame-src", "child-src", "object-src", "worker-src"} & policy.keys()
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


async def test_what_the_page_loads_is_there_under_its_right_type(
    browser: httpx.AsyncClient,
) -> None:
    folder = resources.files("lineshaft_coordinator.page") / "assets"
    scripts = [each.name for each in folder.iterdir() if each.name.endswith(".js")]
    assert len(scripts) > 5
    for name in [*scripts, "vendor/uplot.js"]:
        answer = await browser.get(f"/assets/{name}")
        assert answer.headers["Content-Type"].startswith("text/javascript")
        assert answer.content == (folder / name).read_bytes()
    assert (await browser.get("/assets/style.css")).headers["Content-Type"].startswith("text/css")


async def test_what_did_not_change_is_not_sent_again(browser: httpx.AsyncClient) -> None:
    tag = (await browser.get("/assets/main.js")).headers["ETag"]

    again = await browser.get("/assets/main.js", headers={"If-None-Match": tag})

    assert (again.status_code, again.content) == (304, b"")
    assert (await browser.get("/", headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize(
    "path", ["/assets/../site.py", "/assets/%2e%2e/site.py", "/assets//etc/passwd", "/assets/"]
)
async def test_nothing_else_is_served(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code == 404
