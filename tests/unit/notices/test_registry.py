"""Versions of models on the disk: they grow over every end of the process that gave them."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lineshaft_coordinator.notices.registry import Registry, copy_registry
from lineshaft_runtime.checkpoint_notices import CheckpointNotice


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with closing(Registry(tmp_path / "notices.sqlite")) as made:
        yield made


def enter(registry: Registry, file_id: str, model_name: str = "lstm") -> CheckpointNotice:
    version = registry.version(model_name) + 1
    notice = CheckpointNotice(f"/models/{file_id}", model_name, version)
    registry.enter(("job", file_id), notice, at=100.0 + version)
    return notice


def test_s002_08_what_was_entered_is_there_when_the_file_is_opened_again(
    registry: Registry, tmp_path: Path
) -> None:
    notices = [enter(registry, "1.1"), enter(registry, "1.2"), enter(registry, "1.3", "gru")]

    with closing(Registry(tmp_path / "notices.sqlite")) as opened:
        assert [each.version for each in notices] == [1, 2, 1]
        assert (opened.version("lstm"), opened.version("gru")) == (2, 1)
        assert opened.last("lstm") == notices[1]
        assert opened.all_last(is_told=False) == [notices[2], notices[1]]
        assert opened.has(("job", "1.1"))


def test_a_notice_that_was_told_is_not_told_again_but_a_newer_one_is(registry: Registry) -> None:
    first = enter(registry, "1.1")
    second = enter(registry, "1.2")

    registry.mark_told(first)  # Its publishing ended after the newer one was entered.

    assert registry.all_last(is_told=False) == [second]
    registry.mark_told(second)
    assert registry.all_last(is_told=True) == [second]


def test_a_version_that_others_gave_is_never_given_again(registry: Registry) -> None:
    enter(registry, "1.1")

    registry.raise_to("lstm", 40)
    registry.raise_to("lstm", 7)
    registry.raise_to("gru", 3)
    registry.raise_to("lstm", 2**64 - 1)  # It would leave no version for us.

    assert (enter(registry, "1.2").version, enter(registry, "1.3", "gru").version) == (41, 4)


def test_what_the_journal_has_passed_need_not_be_remembered(registry: Registry) -> None:
    assert registry.cursor is None
    enter(registry, "1.1")
    enter(registry, "1.2")

    registry.advance(17, [("job", "1.1"), ("job", "never heard of")])

    assert registry.cursor == 17
    assert (registry.has(("job", "1.1")), registry.has(("job", "1.2"))) == (False, True)


def test_a_model_without_news_is_forgotten_but_its_version_is_not(registry: Registry) -> None:
    enter(registry, "1.1")
    young = enter(registry, "1.2")

    assert registry.forget_before(102.0) == []
    assert registry.last("lstm") == young
    assert registry.forget_before(103.0) == ["lstm"]

    assert registry.last("lstm") is None
    assert registry.forget_before(103.0) == []
    assert enter(registry, "1.3").version == 3


def test_a_transaction_that_fails_leaves_nothing_behind(registry: Registry) -> None:
    enter(registry, "1.1")

    with pytest.raises(sqlite3.IntegrityError):
        enter(registry, "1.1")

    assert registry.version("lstm") == 1


def test_s002_08_a_copy_goes_on_above_all_that_was_given_since_and_tells_nothing_old(
    registry: Registry, tmp_path: Path
) -> None:
    enter(registry, "1.1")
    registry.advance(5, [])

    copy_registry(tmp_path / "notices.sqlite", tmp_path / "copy.sqlite")

    since = [enter(registry, f"2.{number}").version for number in range(10)]
    with closing(Registry(tmp_path / "copy.sqlite")) as restored:
        assert restored.last("lstm") is None
        assert restored.all_last(is_told=False) == []
        assert restored.cursor == 5
        assert enter(restored, "3.1").version > max(since)
    assert stat.S_IMODE((tmp_path / "copy.sqlite").stat().st_mode) == 0o600
