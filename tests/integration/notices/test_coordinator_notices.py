"""A coordinator announces the checkpoints of its jobs: whole, once on record, with versions that
only grow."""

import hashlib
import json
import shutil
import socket
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.checkpoint_notices import delays_s
from tests.e2e.farm import Farm, until
from tests.integration.notices.conftest import RedisServer

from lineshaft import Client
from lineshaft.checkpoints import CheckpointNotice, ReloadSettings, Subscriber

SAVING = """
import time
from pathlib import Path
from lineshaft import run

def main(first, count, gate="", metadata=None):
    saved = run.latest_checkpoint()
    begin = saved.step + 1 if saved is not None else first
    for step in range(begin, first + count):
        Path("model.bin").write_bytes(bytes([step % 251]) * (50_000 + step))
        run.checkpoint("model.bin", step=step, metadata=metadata)
        while gate and step == first + count // 2 and not Path(gate).exists():
            if run.should_pause():
                run.checkpoint("model.bin", step=step)
                run.paused()
            time.sleep(0.01)
    return first + count
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Farm]:
    """Nothing runs in it until the test starts it."""
    made = Farm(tmp_path)
    try:
        yield made
    finally:
        made.close()


class Listener:
    """Opens each checkpoint when it hears of it."""

    def __init__(self, redis: RedisServer, model_name: str | None = None) -> None:
        self.notices: list[CheckpointNotice] = []
        self.verdicts: list[bool] = []
        settings = ReloadSettings(redis.settings(), reconnect_s=0.05)
        self.subscriber = Subscriber(model_name=model_name, settings=settings)
        self.subscriber.add_handler(self._read)
        self.subscriber.start()
        assert self.subscriber.wait_until_listening(30)

    def _read(self, notice: CheckpointNotice) -> None:
        content = Path(notice.model_path).read_bytes()
        self.verdicts.append(hashlib.sha256(content).hexdigest() == notice.metadata["sha256"])
        self.notices.append(notice)

    @property
    def versions(self) -> list[int]:
        return [notice.version for notice in self.notices]


@pytest.fixture
def listener(redis: RedisServer) -> Iterator[Listener]:
    made = Listener(redis)
    yield made
    made.subscriber.close()


def start(site: Farm, redis_url: str | None, *flags: str) -> None:
    site.start_coordinator(*(("--redis-url", redis_url) if redis_url else ()), *flags)
    if not site.workers:
        site.start_worker("w1", "--slots", "2")


@contextmanager
def connected(site: Farm) -> Generator[Client]:
    with site.client() as client:
        site.until_ready(client)
        yield client


def save(client: Client, first: int, count: int, name: str = "lstm", **params: Any) -> Any:
    parameters = {"first": first, "count": count, **params}
    files = {"save.py": SAVING.encode()}
    return client.run("save.py:main", files=files, params=parameters, name=name)


def latest(site: Farm, model_name: str) -> httpx.Response:
    token = (site.home / "token").read_text().strip()
    url = f"http://127.0.0.1:{site.port}/api/checkpoints/latest"
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(url, params={"model_name": model_name}, headers=headers)


def assert_growing(versions: list[int]) -> None:
    assert all(before < after for before, after in pairwise(versions)), versions


def test_s002_07_checkpoints_of_jobs_are_announced_whole_and_in_order(
    site: Farm, redis: RedisServer, listener: Listener
) -> None:
    start(site, redis.url)
    with connected(site) as client:
        job = save(client, 1, 30, metadata={"loss": 0.5, "best": True})
        assert job.result(timeout=120) == 31

    until(lambda: listener.notices and listener.notices[-1].training_step == 30)
    last = listener.notices[-1]
    assert all(listener.verdicts)
    assert_growing(listener.versions)
    assert Path(last.model_path).name == "model.bin"
    assert Path(last.model_path).parent.parent == site.folder / "data" / "checkpoints" / "lstm"
    assert last.metadata["loss"] == "0.5"
    assert last.metadata["best"] == "true"
    assert last.metadata["job_id"] == job.id
    kept = {path.name for path in Path(last.model_path).parent.parent.iterdir()}
    assert kept == {f"v{version}" for version in range(max(1, last.version - 4), last.version + 1)}


def test_s002_08_versions_grow_over_a_pause_a_restart_and_a_second_job(
    site: Farm, redis: RedisServer, listener: Listener, tmp_path: Path
) -> None:
    start(site, redis.url)
    gate = tmp_path / "gate"
    with connected(site) as client:
        job = save(client, 1, 3, gate=str(gate))
        until(lambda: any(each.training_step == 2 for each in listener.notices))
        job.pause()
        until(lambda: job.status == "paused")
        until(lambda: latest(site, "lstm").json()["version"] >= 2)
        before = latest(site, "lstm").json()["version"]
    assert site.coordinator is not None
    site.coordinator.kill()
    redis.stop()  # What it remembered must not be needed.
    redis.start()
    start(site, redis.url)
    gate.touch()
    with connected(site) as client:
        client.job(job.id).resume()
        client.job(job.id).result(timeout=120)
        until(lambda: latest(site, "lstm").json().get("training_step") == 3)
        assert latest(site, "lstm").json()["version"] > before
        assert listener.subscriber.wait_until_listening(30)
        before = latest(site, "lstm").json()["version"]
        # Its steps begin again, which versions must not.
        save(client, 1, 3).result(timeout=120)

    until(lambda: listener.versions[-1] >= before + 3)
    assert_growing(listener.versions)
    assert all(listener.verdicts)
    assert latest(site, "lstm").json()["version"] == listener.versions[-1]


def test_s002_08_versions_grow_over_a_restore_of_an_older_backup(
    site: Farm, redis: RedisServer, listener: Listener, tmp_path: Path
) -> None:
    start(site, redis.url)
    with connected(site) as client:
        save(client, 1, 2).result(timeout=120)
        until(lambda: listener.notices and listener.notices[-1].training_step == 2)
        backup = tmp_path / "backup"
        command = ["-m", "lineshaft_coordinator", "backup", str(backup)]
        command += ["--data", str(site.folder / "data")]
        assert site.start("backup", *command).popen.wait(60) == 0
        save(client, 3, 2).result(timeout=120)
        until(lambda: listener.notices[-1].training_step == 4)
    assert site.coordinator is not None
    site.coordinator.terminate()
    site.workers.popitem()[1].kill()
    redis.stop()  # It cannot tell which versions it has heard.
    redis.start()
    shutil.rmtree(site.folder / "data")
    command = ["-m", "lineshaft_coordinator", "restore", str(backup)]
    command += ["--data", str(site.folder / "data")]
    assert site.start("restore", *command).popen.wait(60) == 0
    assert listener.subscriber.wait_until_listening(30)

    start(site, redis.url)
    with connected(site) as client:
        save(client, 5, 1).result(timeout=120)

    until(lambda: listener.notices[-1].training_step == 5)
    assert_growing(listener.versions)


def test_s002_06_jobs_and_commits_do_not_notice_a_redis_that_is_away(
    site: Farm, stopped_redis: RedisServer
) -> None:
    start(site, stopped_redis.url)
    with connected(site) as client:
        assert save(client, 1, 5).result(timeout=120) == 6
        until(lambda: latest(site, "lstm").status_code == 200)
        until(lambda: latest(site, "lstm").json()["training_step"] == 5)
    assert site.coordinator is not None
    said = [json.loads(line) for line in site.coordinator.said().splitlines()]
    warnings = [line for line in said if "not announced" in str(line.values())]
    assert len(warnings) == 1
    assert not [line for line in said if line.get("level") == "error"]

    stopped_redis.start()

    listener = Listener(stopped_redis)
    until(lambda: listener.notices, what="the newest is announced once Redis is back")
    assert [each.training_step for each in listener.notices] == [5]
    listener.subscriber.close()


def test_s002_06_a_redis_that_never_answers_delays_nobody(site: Farm) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        start(site, f"redis://127.0.0.1:{silent.getsockname()[1]}")
        with connected(site) as client:
            assert save(client, 1, 5).result(timeout=120) == 6
            until(lambda: latest(site, "lstm").json().get("training_step") == 5)


def test_s002_10_the_last_one_is_served_and_kept_for_who_comes_late(
    site: Farm, redis: RedisServer
) -> None:
    start(site, redis.url)
    with connected(site) as client:
        save(client, 1, 3).result(timeout=120)
        save(client, 7, 2, name="other", metadata={"model_name": "gru/small"}).result(timeout=120)
    until(lambda: {"lstm", "gru/small"} <= redis.kept().keys())
    until(lambda: latest(site, "lstm").json().get("training_step") == 3)
    until(lambda: latest(site, "gru/small").json().get("training_step") == 8)

    late = Listener(redis, "gru/small")

    until(lambda: late.notices)
    assert [each.training_step for each in late.notices] == [8]
    assert late.notices[0].to_json() == json.dumps(
        latest(site, "gru/small").json(), separators=(",", ":")
    )
    late.subscriber.close()
    assert latest(site, "unheard of").status_code == 404
    url = f"http://127.0.0.1:{site.port}/api/checkpoints/latest?model_name=lstm"
    assert httpx.get(url).status_code == 401


def test_s002_10_a_redis_that_was_started_empty_is_given_the_last_ones_again(
    site: Farm, redis: RedisServer
) -> None:
    start(site, redis.url)
    with connected(site) as client:
        save(client, 1, 3).result(timeout=120)
        # The last of the three: one that was not told yet would be told in any case.
        until(lambda: json.loads(redis.kept().get("lstm", "{}")).get("training_step") == 3)
        redis.stop()
        redis.start()

        save(client, 1, 1, name="gru").result(timeout=120)

        until(lambda: redis.kept().keys() == {"lstm", "gru"})


def test_what_a_killed_coordinator_had_on_record_is_announced_by_the_next(
    site: Farm, stopped_redis: RedisServer
) -> None:
    start(site, None)
    with connected(site) as client:
        save(client, 1, 2).result(timeout=120)
    assert site.coordinator is not None
    site.coordinator.terminate()
    start(site, stopped_redis.url)  # Announced is what comes from here on.
    with connected(site) as client:
        assert latest(site, "lstm").status_code == 404
        save(client, 3, 1).result(timeout=120)
        until(lambda: latest(site, "lstm").status_code == 200)
    site.coordinator.terminate()
    start(site, None)  # Notices are off for a while; the journal goes on.
    with connected(site) as client:
        save(client, 4, 3).result(timeout=120)
        save(client, 9, 1, name="gru").result(timeout=120)
        assert latest(site, "lstm").status_code == 404
    site.coordinator.kill()

    stopped_redis.start()
    listener = Listener(stopped_redis)
    start(site, stopped_redis.url)

    until(lambda: {"lstm", "gru"} <= {each.model_name for each in listener.notices})
    steps = {each.model_name: each.training_step for each in listener.notices}
    assert steps == {"lstm": 6, "gru": 9}
    listener.subscriber.close()


def test_s002_05_switched_off_a_coordinator_connects_to_nothing(site: Farm, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        door.setblocking(False)
        url = f"redis://127.0.0.1:{door.getsockname()[1]}"
        port_file = tmp_path / "port"
        command = ["-m", "lineshaft_coordinator", "--listen", "127.0.0.1:0"]
        command += ["--data", str(tmp_path / "data"), "--port-file", str(port_file)]
        environ = {"REDIS_URL": url, "ENABLE_CHECKPOINT_NOTIFY": "off"}
        site.start("coordinator", *command, environ=environ)
        until(port_file.exists)
        site.port = int(port_file.read_text())
        site.start_worker("w1", "--slots", "1")
        with connected(site) as client:
            save(client, 1, 2).result(timeout=120)

        answer = latest(site, "lstm")

        assert answer.status_code == 404
        assert "notices are off" in answer.json()["error"]
        assert not (tmp_path / "data" / "notices.sqlite").exists()
        with pytest.raises(BlockingIOError):
            door.accept()


def test_a_folder_of_ones_own_gets_copies_that_others_can_read(
    site: Farm, redis: RedisServer, listener: Listener, tmp_path: Path
) -> None:
    start(site, redis.url, "--notices-folder", str(tmp_path / "shared"), "--notices-kept", "2")
    with connected(site) as client:
        save(client, 1, 5).result(timeout=120)

    until(lambda: listener.notices and listener.notices[-1].training_step == 5)
    path = Path(listener.notices[-1].model_path)
    assert path.is_relative_to(tmp_path / "shared" / "lstm")
    assert path.stat().st_nlink == 1
    assert path.stat().st_mode & 0o444
    assert len(list((tmp_path / "shared" / "lstm").iterdir())) == 2


def test_a_committed_checkpoint_is_heard_of_soon(site: Farm, redis: RedisServer) -> None:
    start(site, redis.url)
    with connected(site) as client:
        found = delays_s(client, redis, 10, 0.05)

    # Promised are 0.1 s; see benchmarks/checkpoint_notices.py.
    assert found[len(found) // 2] <= 1.0
