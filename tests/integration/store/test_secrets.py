"""Secrets at rest: encrypted, for their owner alone, whole after each change."""

import stat
from pathlib import Path

import pytest

from lineshaft_coordinator.data import secrets
from lineshaft_coordinator.data.secrets import SecretBox, SecretsDamagedError, TooManySecretsError

VALUE = "hf_canary_0123456789"


@pytest.fixture
def box(tmp_path: Path) -> SecretBox:
    return SecretBox(tmp_path)


def test_a_secret_comes_back_after_a_restart_and_is_on_no_disk(
    box: SecretBox, tmp_path: Path
) -> None:
    box.set("HF_TOKEN", VALUE)
    box.set("OTHER", "päss\nword")

    again = SecretBox(tmp_path)

    assert again.values({"TOKEN": "HF_TOKEN", "OTHER": "OTHER", "X": "gone"}) == {
        "TOKEN": VALUE,
        "OTHER": "päss\nword",
    }
    assert list(again.names()) == ["HF_TOKEN", "OTHER"]
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["secrets.json", "secrets.key"]
    for file in files:
        assert VALUE.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_secret_is_replaced_and_removed(box: SecretBox) -> None:
    box.set("A", "first value")
    box.set("A", "second value")

    assert box.values({"A": "A"}) == {"A": "second value"}
    assert box.remove("A")
    assert not box.remove("A")
    assert box.names() == {}


def test_a_missing_secret_is_named(box: SecretBox) -> None:
    box.set("A", "the value")

    assert box.missing({"X": "A", "Y": "B"}) == "B"
    assert box.missing({"X": "A"}) is None
    assert box.missing(None) is None


def test_a_secret_moved_under_another_name_is_not_given_out(box: SecretBox, tmp_path: Path) -> None:
    box.set("A", "the value")
    path = tmp_path / "secrets.json"
    path.write_text(path.read_text().replace('"A"', '"B"'))

    with pytest.raises(SecretsDamagedError, match="B cannot be decrypted"):
        SecretBox(tmp_path).values({"B": "B"})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("secrets.json", b"{"),
        ("secrets.json", b"[]"),
        ("secrets.json", b'{"A": 1}'),
        ("secrets.json", b'{"A": {"sealed": "eA==", "set_at": "now"}}'),
        ("secrets.key", b"short"),
        ("secrets.key", None),
    ],
)
def test_damage_is_told_with_the_file_and_never_taken_for_an_empty_box(
    box: SecretBox, tmp_path: Path, file: str, content: bytes | None
) -> None:
    box.set("A", "the value")
    path = tmp_path / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SecretsDamagedError, match=file):
        SecretBox(tmp_path).values({"A": "A"})
    with pytest.raises(SecretsDamagedError, match=file):
        SecretBox(tmp_path).set("B", "the value")


def test_there_is_a_limit(box: SecretBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "SECRETS_MAX", 1)
    box.set("A", "the value")

    with pytest.raises(TooManySecretsError, match="remove one first"):
        box.set("B", "the value")
    box.set("A", "new value")
