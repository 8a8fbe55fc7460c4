"""Where a client finds its coordinator, and what it proves before it trusts it."""

import json
from pathlib import Path

import pytest

from lineshaft.errors import (
    AccessDeniedError,
    CertificateError,
    CoordinatorUnreachableError,
    InvalidUrlError,
)
from lineshaft.locating import Place, locate

PIN = "ab" * 32
PINNED = f"ls1.{PIN}.s3cret"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a machine with a coordinator."""
    (tmp_path / "coordinator.json").write_text(json.dumps({"url": "ws://127.0.0.1:7433"}))
    (tmp_path / "token").write_text("local-token\n")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("host:7433", "ws://host:7433/v1/client"),
        ("ws://host:7433", "ws://host:7433/v1/client"),
        ("ws://host:7433/", "ws://host:7433/v1/client"),
        ("http://host:7433", "ws://host:7433/v1/client"),
        ("https://host", "wss://host/v1/client"),
        ("WSS://host/shop", "wss://host/shop/v1/client"),
        ("ws://[::1]:7433", "ws://[::1]:7433/v1/client"),
        ("ws://host:7433/v1/client", "ws://host:7433/v1/client"),
    ],
)
def test_a_url_may_be_written_in_many_ways(given: str, url: str, tmp_path: Path) -> None:
    place = locate(given, None, environ={"LINESHAFT_HOME": str(tmp_path)})

    assert place == Place(url, None)


@pytest.mark.parametrize("given", ["ftp://host", "ws://", "host:many", "a b:1", "host:1?token=x"])
def test_what_is_no_url_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidUrlError):
        locate(given, None, environ={"LINESHAFT_HOME": str(tmp_path)})


def test_the_coordinator_of_this_machine_is_the_default(home: Path) -> None:
    place = locate(None, None, environ={"LINESHAFT_HOME": str(home)})

    assert place == Place("ws://127.0.0.1:7433/v1/client", "local-token")


def test_the_environment_names_another_coordinator(home: Path) -> None:
    environ = {"LINESHAFT_HOME": str(home), "LINESHAFT_URL": "gpu-head:7433"}

    place = locate(None, None, environ=environ)

    assert place.url == "ws://gpu-head:7433/v1/client"


def test_the_token_of_this_machine_is_not_told_to_others(home: Path) -> None:
    place = locate("gpu-head:7433", None, environ={"LINESHAFT_HOME": str(home)})

    assert place.token is None


def test_a_token_comes_from_the_call_then_the_environment_then_a_file(
    home: Path, tmp_path: Path
) -> None:
    token_file = tmp_path / "elsewhere"
    token_file.write_text("from-file\n")
    environ = {"LINESHAFT_HOME": str(home), "LINESHAFT_TOKEN_FILE": str(token_file)}

    assert locate(None, None, environ=environ).token == "from-file"
    environ["LINESHAFT_TOKEN"] = "from-environment"
    assert locate(None, None, environ=environ).token == "from-environment"
    assert locate(None, "from-call", environ=environ).token == "from-call"


def test_a_token_file_that_is_not_there_is_told(home: Path) -> None:
    environ = {"LINESHAFT_HOME": str(home), "LINESHAFT_TOKEN_FILE": "/nowhere/token"}

    with pytest.raises(AccessDeniedError, match="/nowhere/token"):
        locate(None, None, environ=environ)


def test_without_any_coordinator_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CoordinatorUnreachableError, match="lineshaft up"):
        locate(None, None, environ={"LINESHAFT_HOME": str(tmp_path)})


def test_a_pinned_token_asks_for_encryption(tmp_path: Path) -> None:
    place = locate("host:7433", PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})

    assert place == Place("wss://host:7433/v1/client", PINNED, PIN)


def test_a_pinned_token_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="without encryption"):
        locate("ws://host:7433", PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})


def test_a_token_is_not_shown() -> None:
    assert "s3cret" not in repr(Place("wss://host/v1/client", PINNED, PIN))
