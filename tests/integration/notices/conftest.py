"""A real Redis for tests; who has none is told how to get one."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.farm import until

from lineshaft.checkpoints import NoticeSettings, ReloadSettings
from lineshaft.redis_link import connect

MISSING = (
    "no redis-server on this machine; install it to run this test "
    "(Debian, Ubuntu: apt-get install redis-server)"
)


class RedisServer:
    """A redis-server on loopback that keeps nothing when it ends."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def settings(self, instance_id: str = "default") -> NoticeSettings:
        return NoticeSettings(url=self.url, instance_id=instance_id)

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self._answers, what="redis-server answers")

    def _answers(self) -> bool:
        link = connect(self.url)
        try:
            link.hgetall("nothing")
        except OSError:
            return False
        except Exception as error:
            if type(error).__name__ not in {"ConnectionError", "BusyLoadingError"}:
                raise
            return False
        finally:
            link.close()
        return True

    def stop(self) -> None:
        """In order: every client is told that its connection ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kept(self, instance_id: str = "default") -> dict[str, str]:
        """What it keeps for those that come late, by model."""
        link = connect(self.url)
        try:
            return link.hgetall(self.settings(instance_id).latest_key)
        finally:
            link.close()


@pytest.fixture
def stopped_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test starts when it wants."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(MISSING)
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(program, folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis(stopped_redis: RedisServer) -> RedisServer:
    """A Redis that runs."""
    stopped_redis.start()
    return stopped_redis


@pytest.fixture
def listening(redis: RedisServer) -> ReloadSettings:
    """How to listen to it; a cut is tried again soon."""
    return ReloadSettings(redis=redis.settings(), reconnect_s=0.05)
