"""What all routes read alike of a request: its token, and the whole numbers of its query."""

from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from lineshaft_coordinator.server.query_numbers import number, number_asked
from lineshaft_protocol.wire import NUMBER_MAX
from lineshaft_runtime.connection import token_of


def asking(**query: str) -> Request:
    return Request({"type": "http", "query_string": urlencode(query).encode(), "headers": []})


@pytest.mark.parametrize("text", ["0", "7", "10", "0010"])
def test_a_whole_number_in_range_is_read(text: str) -> None:
    assert number(asking(limit=text), "limit", 5, most=10) == int(text)


def test_what_is_not_asked_is_the_default() -> None:
    assert number(asking(), "limit", 5) == 5
    assert number_asked(asking(), "limit") is None


@pytest.mark.parametrize("text", ["", "-", "-1", "11", "1.5", "1e3", " 1", "+1", "x", "9" * 5000])
def test_anything_else_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match="limit must be a whole number from 0 to 10, not"):
        number(asking(limit=text), "limit", 5, most=10)


def test_a_negative_number_is_read_where_it_is_allowed() -> None:
    request = asking(offset="-3", step=f"-{NUMBER_MAX}")

    assert number(request, "offset", 0, least=-3) == -3
    assert number_asked(request, "step", least=-NUMBER_MAX) == -NUMBER_MAX


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer ", "asked"),
        ("Basic abc", "asked"),
        ("", "asked"),
    ],
)
def test_a_token_is_the_headers_and_else_the_querys(header: str, found: str) -> None:
    assert token_of({"authorization": header}, {"token": "asked"}) == found
    assert token_of({}, {}) is None
