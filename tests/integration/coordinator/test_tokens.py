"""The file of tokens: damaged it opens nothing, and nobody who writes to it loses another's."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lineshaft_coordinator.server.admission import (
    Grant,
    TokenNameError,
    Tokens,
    TokensDamagedError,
)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"d": 7}', b'{"d": {"id": "x", "role": "king"}}'],
    ids=["empty", "torn", "no text", "a list", "no entry", "no role"],
)
def test_a_damaged_file_lets_nobody_in_but_the_local_token_until_it_is_whole(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, file = Tokens(tmp_path, "local"), tmp_path / "tokens.json"
    _, secret = tokens.create("client")
    whole = file.read_bytes()
    before = tokens.grant(secret)

    file.write_bytes(damage)
    damaged = [tokens.grant(secret) for _ in range(3)]
    local = tokens.grant("local")
    file.write_bytes(whole)
    after = tokens.grant(secret)

    assert before is not None
    assert damaged == [None, None, None]
    assert local is not None
    assert after == before
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert str(file) in str(vars(said)["why"])


def test_a_damaged_file_is_not_written_over(tmp_path: Path) -> None:
    tokens, file = Tokens(tmp_path, "local"), tmp_path / "tokens.json"
    file.write_bytes(b"{")

    with pytest.raises(TokensDamagedError, match="Bring the file back"):
        tokens.create("client")
    with pytest.raises(TokensDamagedError, match="Bring the file back"):
        tokens.revoke("00000000")

    assert file.read_bytes() == b"{"


def test_tokens_that_are_made_and_revoked_at_once_are_all_kept_and_all_gone(tmp_path: Path) -> None:
    revoked = [Tokens(tmp_path, "").create("client")[0] for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(Tokens(tmp_path, "").create, "client") for _ in range(20)]
        gone = [pool.submit(Tokens(tmp_path, "").revoke, token_id) for token_id in revoked]
        ids = [each.result()[0] for each in made]

    assert all(each.result() for each in gone)
    assert sorted(grant.token_id for grant in Tokens(tmp_path, "").listed()) == sorted(ids)


def test_a_token_that_is_named_has_that_name_as_its_id_until_it_is_revoked(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, "")
    token_id, secret = tokens.create("client", "alice@lab-1")

    grant = tokens.grant(secret)
    with pytest.raises(TokenNameError, match="'lineshaft token revoke alice@lab-1' makes it free"):
        tokens.create("admin", "alice@lab-1")

    assert token_id == "alice@lab-1"
    assert grant == Grant("alice@lab-1", "client")
    assert tokens.listed() == [grant]
    assert tokens.revoke("alice@lab-1")
    assert tokens.create("client", "alice@lab-1")[0] == "alice@lab-1"


@pytest.mark.parametrize(
    "name", ["local", "me", "nobody", "", " ", "-a", "a b", "a\n", "ä", "a" * 65]
)
def test_no_token_is_named_as_what_means_something_else_or_cannot_be_typed(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(TokenNameError, match="no token can be named"):
        Tokens(tmp_path, "").create("client", name)

    assert Tokens(tmp_path, "").listed() == []
