"""A script saves checkpoints and announces them; Redis may be there or not."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from tests.e2e.farm import until
from tests.integration.notices.conftest import RedisServer

from lineshaft.checkpoints import (
    CheckpointNotice,
    NoticeSettings,
    Publisher,
    ReloadSettings,
    Subscriber,
    VersionError,
)

CHECKPOINTS = 1000
AHEAD = 4
"""How far a publisher of a test gets ahead of its reader; fewer than are kept."""


def is_what_was_announced(notice: CheckpointNotice) -> bool:
    """What a careful consumer does: open, read, compare the hash."""
    content = Path(notice.model_path).read_bytes()
    return hashlib.sha256(content).hexdigest() == notice.metadata["sha256"]


class Reader:
    """Opens each checkpoint when it hears of it."""

    def __init__(self, listening: ReloadSettings) -> None:
        self.verdicts: list[bool] = []
        self.versions: list[int] = []
        self._changed = threading.Condition()
        self.subscriber = Subscriber(settings=listening)
        self.subscriber.add_handler(self._read)
        self.subscriber.start()
        assert self.subscriber.wait_until_listening(30)

    def _read(self, notice: CheckpointNotice) -> None:
        verdict = is_what_was_announced(notice)
        with self._changed:
            self.verdicts.append(verdict)
            self.versions.append(notice.version)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.verdicts) >= count, 60), count


def content_of(number: int) -> bytes:
    return bytes([number % 251]) * (20_000 + number * 7 % 5000)


def test_s002_05_switched_off_it_saves_and_connects_to_nothing(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        door.setblocking(False)
        settings = NoticeSettings(f"redis://127.0.0.1:{door.getsockname()[1]}", is_enabled=False)

        with Publisher(tmp_path, model_name="lstm", settings=settings) as publisher:
            with publisher.writing() as path:
                path.write_bytes(b"weights")
            is_success = publisher.flush()

        with pytest.raises(BlockingIOError):
            door.accept()
    assert is_success
    assert (tmp_path / "lstm/v1/model.bin").read_bytes() == b"weights"


def test_s002_06_nothing_is_dialled_before_the_first_checkpoint(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        door.settimeout(30)
        settings = NoticeSettings(f"redis://127.0.0.1:{door.getsockname()[1]}")
        publisher = Publisher(tmp_path, model_name="lstm", settings=settings)
        door.setblocking(False)
        with pytest.raises(BlockingIOError):
            door.accept()
        door.settimeout(30)

        with publisher.writing() as path:
            path.write_bytes(b"weights")

        door.accept()[0].close()
        publisher.close(0)


def test_s002_06_a_redis_that_is_away_costs_a_warning_and_a_step_no_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worst Redis: it takes the connection and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        away = NoticeSettings(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        off = NoticeSettings(is_enabled=False)
        with (
            Publisher(tmp_path / "away", model_name="away", settings=away) as telling,
            Publisher(tmp_path / "off", model_name="m", settings=off) as quiet,
        ):
            step_s(telling)
            until(lambda: telling.last_error, what="the first try has failed")
            spent = [(step_s(telling), step_s(quiet)) for _ in range(40)]
            telling.close(0.1)

    more_s = sorted(told for told, _ in spent)[20] - sorted(saved for _, saved in spent)[20]
    # Promised is 1 ms; a wait for Redis would be its limit of 1 s each time.
    assert more_s < 0.01
    warnings = [r for r in caplog.records if "not announced" in r.getMessage()]
    # A publisher of a test before this one may still be at its last try.
    mine = [r for r in warnings if r.__dict__["model"] == "away"]
    assert 1 <= len(mine) <= 2, "one while it is away, one at the end"


def step_s(publisher: Publisher) -> float:
    started = time.perf_counter()
    with publisher.writing(metadata={"loss": 0.1}) as path:
        path.write_bytes(b"weights")
    return time.perf_counter() - started


def test_once_redis_is_back_the_newest_is_announced_and_not_all_the_others(
    tmp_path: Path, stopped_redis: RedisServer
) -> None:
    settings = stopped_redis.settings()
    with Publisher(tmp_path, model_name="lstm", settings=settings) as publisher:
        for _ in range(10):
            step_s(publisher)
        until(lambda: publisher.last_error, what="it notices that Redis is away")
        stopped_redis.start()
        told: list[int] = []
        with Subscriber(settings=ReloadSettings(redis=settings)) as subscriber:
            subscriber.add_handler(lambda notice: told.append(notice.version))

            assert publisher.flush(30)

            until(lambda: told, what="the newest is heard of")
        assert told == [10]
        assert CheckpointNotice.from_json(stopped_redis.kept()["lstm"]).version == 10


def test_s002_07_a_thousand_checkpoints_are_whole_when_they_are_heard_of(
    tmp_path: Path, redis: RedisServer, listening: ReloadSettings
) -> None:
    reader = Reader(listening)

    with Publisher(tmp_path, model_name="lstm", settings=redis.settings()) as publisher:
        for number in range(1, CHECKPOINTS + 1):
            with publisher.writing(step=number) as path:
                path.write_bytes(content_of(number))
            reader.wait_for(number - AHEAD)
        reader.wait_for(CHECKPOINTS)
    reader.subscriber.close()

    assert reader.verdicts == [True] * CHECKPOINTS
    assert reader.versions == list(range(1, CHECKPOINTS + 1))
    assert reader.subscriber.statistics.failed_reloads == 0


def test_s002_07_a_trainer_that_overwrites_in_place_is_caught_by_the_same_reader(
    tmp_path: Path, redis: RedisServer, listening: ReloadSettings
) -> None:
    """The planted bug: one file, written in place, announced before it is whole."""
    reader = Reader(listening)
    from lineshaft.redis_link import connect  # noqa: PLC0415

    link = connect(redis.url)
    path = tmp_path / "latest_model.bin"
    for number in range(1, 21):
        content = content_of(number)
        digest = hashlib.sha256(content).hexdigest()
        notice = CheckpointNotice(str(path), "lstm", number, metadata={"sha256": digest})
        path.write_bytes(content[: len(content) // 2])
        with link.pipeline() as both:
            both.publish(redis.settings().channel, notice.to_json())
            both.execute()
        reader.wait_for(number)
        path.write_bytes(content)
    link.close()
    reader.subscriber.close()

    assert False in reader.verdicts


def test_s002_08_versions_grow_over_restarts_of_the_script_and_kills_of_it(
    tmp_path: Path, redis: RedisServer, listening: ReloadSettings
) -> None:
    reader = Reader(listening)
    code = (
        "import sys, time\n"
        "from lineshaft.checkpoints import Publisher\n"
        "publisher = Publisher(sys.argv[1], model_name='lstm')\n"
        "for step in range(1000000):\n"
        "    with publisher.writing(step=step) as path:\n"
        "        path.write_bytes(bytes([step % 251]) * 5000)\n"
        "    assert publisher.flush(30)\n"
    )
    environ = os.environ | {"REDIS_URL": redis.url}

    for _ in range(4):
        count = len(reader.verdicts)
        script = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environ)
        reader.wait_for(count + 5)
        script.send_signal(signal.SIGKILL)
        script.wait()
    reader.subscriber.close()

    assert grow(reader.versions)
    assert reader.versions[-1] >= 20


def grow(versions: Iterable[int]) -> bool:
    seen = list(versions)
    return all(before < after for before, after in pairwise(seen))


def test_a_version_of_ones_own_must_be_above_those_before(tmp_path: Path) -> None:
    settings = NoticeSettings(is_enabled=False)
    publisher = Publisher(tmp_path, model_name="lstm", settings=settings)
    with publisher.writing(version=1000) as path:
        path.write_bytes(b"weights")

    with (
        pytest.raises(VersionError, match="version 1000 of lstm does not follow 1000"),
        publisher.writing(version=1000),
    ):
        pass

    assert publisher.publish(path_of(tmp_path, "lstm/v1000/model.bin")).parent.name == "v1001"


def path_of(folder: Path, name: str) -> Path:
    path = folder / name
    assert path.is_file()
    return path


def test_a_checkpoint_that_failed_to_be_written_is_not_published(
    tmp_path: Path, redis: RedisServer
) -> None:
    with Publisher(tmp_path, model_name="lstm", settings=redis.settings()) as publisher:
        with pytest.raises(RuntimeError, match="disk"):
            write_half(publisher)
        with publisher.writing() as path:
            path.write_bytes(b"whole")
        assert publisher.flush(30)

    told = CheckpointNotice.from_json(redis.kept()["lstm"])
    assert Path(told.model_path).read_bytes() == b"whole"
    assert not list(tmp_path.rglob("*draft*"))


def write_half(publisher: Publisher) -> None:
    with publisher.writing() as path:
        path.write_bytes(b"half")
        raise RuntimeError("disk")


def test_the_files_of_old_versions_go(tmp_path: Path) -> None:
    settings = NoticeSettings(is_enabled=False)
    publisher = Publisher(tmp_path, model_name="lstm", kept=3, settings=settings)

    for _ in range(10):
        step_s(publisher)

    assert sorted(path.name for path in (tmp_path / "lstm").iterdir()) == ["v10", "v8", "v9"]
