"""Where a client finds its coordinator, and to whom it does not tell its token."""

from pathlib import Path

import pytest

from lineshaft.errors import NoCoordinatorError, UnencryptedTokenError
from lineshaft.locating import locate
from lineshaft_runtime.locating import BadTokenError

PINNED = f"ls1.{'ab' * 32}.s3cret"


def test_without_any_coordinator_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoCoordinatorError, match="Start one with"):
        locate(None, None, environ={"LINESHAFT_HOME": str(tmp_path)})


def test_a_plain_token_goes_as_it_is(tmp_path: Path) -> None:
    where = locate("host:7433", "secret", environ={"LINESHAFT_HOME": str(tmp_path)})

    assert (where.url, where.secret) == ("ws://host:7433", "secret")


@pytest.mark.parametrize("url", ["host:7433", "wss://host:7433", "https://host:7433"])
def test_a_pinned_token_takes_the_encrypted_way(url: str, tmp_path: Path) -> None:
    where = locate(url, PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})

    assert (where.url, where.secret) == ("wss://host:7433", "s3cret")


@pytest.mark.parametrize("url", ["ws://host:7433", "http://host:7433"])
def test_a_pinned_token_is_not_sent_in_the_clear(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnencryptedTokenError, match="wss://"):
        locate(url, PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})


def test_a_pinned_token_may_stay_on_this_machine_in_the_clear(tmp_path: Path) -> None:
    where = locate("ws://127.0.0.1:7433", PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})

    assert where.url == "ws://127.0.0.1:7433"


@pytest.mark.parametrize("token", ["two\nlines", "two words", "tok\u20acn", "ls1.ab.\tx"])
def test_what_no_token_can_be_is_told_without_it(token: str, tmp_path: Path) -> None:
    with pytest.raises(BadTokenError, match="copy it again") as caught:
        locate("host:7433", token, environ={"LINESHAFT_HOME": str(tmp_path)})

    assert token not in str(caught.value)
