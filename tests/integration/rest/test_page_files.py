"""The files of the dashboard, as a browser asks for them."""

import re

import httpx
import pytest


def policy_of(answer: httpx.Response) -> dict[str, str]:
    text = answer.headers["content-security-policy"]
    return dict(part.strip().split(" ", 1) for part in text.split(";"))


@pytest.mark.parametrize("path", ["/", "/assets/main.js"])
def test_what_the_page_may_load_is_said_with_each_of_its_files(
    stranger: httpx.Client, path: str
) -> None:
    answer = stranger.get(path)

    assert answer.status_code == 200
    policy = policy_of(answer)
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert {policy[name] for name in ("frame-ancestors", "base-uri", "form-action")} == {"'none'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_no_script_or_style_of_the_page_stands_in_it(stranger: httpx.Client) -> None:
    """The policy would keep it from running."""
    text = stranger.get("/").text

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text) == []


def test_a_file_that_a_browser_has_is_not_sent_again(stranger: httpx.Client) -> None:
    first = stranger.get("/assets/main.js")
    again = stranger.get("/assets/main.js", headers={"If-None-Match": first.headers["etag"]})
    older = stranger.get("/assets/main.js", headers={"If-None-Match": '"of another version"'})

    assert (again.status_code, again.content) == (304, b"")
    assert (older.status_code, older.content) == (200, first.content)
    assert first.headers["cache-control"] == "no-cache"


def test_nothing_beside_the_page_is_served(stranger: httpx.Client) -> None:
    for path in ("/assets/../site.py", "/assets/%2e%2e/site.py", "/assets//etc/passwd"):
        assert stranger.get(path).status_code == 404
