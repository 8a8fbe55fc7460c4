"""Where a browser finds the page, and what opens it."""

import pytest

from lineshaft.cli.dashboard import page_address


@pytest.mark.parametrize(
    ("url", "token", "address"),
    [
        ("ws://127.0.0.1:7433", "abc", "http://127.0.0.1:7433/#token=abc"),
        ("wss://head:7433", "ls1.5f.a/b+c", "https://head:7433/#token=ls1.5f.a%2Fb%2Bc"),
        ("ws://[::1]:7433", None, "http://[::1]:7433/"),
    ],
)
def test_the_address_has_the_token_where_no_server_sees_it(
    url: str, token: str | None, address: str
) -> None:
    assert page_address(url, token) == address
