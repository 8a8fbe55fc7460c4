"""Measures how long after the commit of a checkpoint its notice is with a subscriber of Redis.

Usage: python -m benchmarks.checkpoint_notices [checkpoints]   (default 100; needs redis-server)

Prints one JSON line. Coordinator, worker, Redis and subscriber on this machine, so that one clock
counts. A record's time is taken before it is written: the sync of the journal is part of what is
measured.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.farm import Farm, until
from tests.integration.notices.conftest import MISSING, RedisServer

from lineshaft import Client
from lineshaft.checkpoints import CheckpointNotice, ReloadSettings, Subscriber

BETWEEN_S = 0.1
SAVING = """
import time
from pathlib import Path
from lineshaft import run

def main(count, between_s):
    for step in range(1, count + 1):
        Path("model.bin").write_bytes(bytes(1 << 20))
        run.checkpoint("model.bin", step=step)
        time.sleep(between_s)
"""


def delays_s(client: Client, redis: RedisServer, count: int, between_s: float) -> list[float]:
    """Save checkpoints; returns the seconds from each commit to its notice, the shortest first."""
    heard: dict[str, float] = {}
    steps: list[int] = []

    def hear(notice: CheckpointNotice) -> None:
        heard[notice.metadata["file_id"]] = time.time()
        steps.append(notice.training_step)

    with Subscriber(settings=ReloadSettings(redis=redis.settings())) as subscriber:
        subscriber.add_handler(hear)
        assert subscriber.wait_until_listening(30)
        params = {"count": count, "between_s": between_s}
        job = client.run("save.py:main", files={"save.py": SAVING.encode()}, params=params)
        job.result(timeout=count * between_s + 120)
        until(lambda: count in steps, what="the last one is announced")
    story = job.story()
    assert isinstance(story, list)
    kept_at = {
        str(entry["file"]["file_id"]): float(entry["at"])
        for entry in story
        if entry.get("type") == "FileKept"
    }
    return sorted(at - kept_at[file_id] for file_id, at in heard.items())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    program = shutil.which("redis-server")
    if program is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory(prefix="bench-notices-") as name:
        folder = Path(name)
        redis, farm = RedisServer(program, folder), Farm(folder)
        try:
            redis.start()
            farm.start_coordinator("--redis-url", redis.url)
            farm.start_worker("w1", "--slots", "1")
            with farm.client() as client:
                farm.until_ready(client)
                found = delays_s(client, redis, count, BETWEEN_S)
        finally:
            farm.close()
            redis.stop()
    print(
        json.dumps(
            {
                "what": f"commit of a checkpoint until its notice is heard, {len(found)} of 1 MiB",
                "p50_ms": round(1000 * found[len(found) // 2], 1),
                "p99_ms": round(1000 * found[len(found) * 99 // 100], 1),
                "max_ms": round(1000 * found[-1], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
