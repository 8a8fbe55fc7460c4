"""kill -9 at random instants: what was acknowledged is there, and no batch is torn (G1, F1)."""

import os
import random
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.e2e.farm import until
from tests.e2e.nursery import nursery_of
from tests.integration.store import crashing_writer

from lineshaft_coordinator.store.check import check_store
from lineshaft_coordinator.store.sqlite import SqliteStore

KILLS = 30
NUMBERS_OF_A_LIFE = 1_000_000
WRITER = "tests.integration.store.crashing_writer"


async def test_no_acknowledged_batch_is_lost_and_none_is_torn(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    dice = random.Random(20)
    acknowledged: set[int] = set()
    epoch = 0

    for life in range(KILLS):
        # No number is used in two lives: one that died before its first word may have kept some.
        acknowledged |= run_and_kill(folder, first=life * NUMBERS_OF_A_LIFE, dice=dice)

        store = SqliteStore(folder)
        epoch, earlier = await store.open(), epoch
        parts = Counter(int(record.split(b".")[0]) for record in store.live_records())
        rows = {int(row.submitted_at) for row in await store.rows(limit=1_000_000)}
        await store.close()

        assert epoch > earlier
        assert acknowledged <= parts.keys()
        assert set(parts.values()) <= {crashing_writer.RECORDS}
        assert rows == parts.keys()
    report = check_store(folder)
    assert report.problems == ()
    assert report.event_count == 2 * report.job_count
    assert len(acknowledged) > KILLS, "the writer must have been killed at work"


def run_and_kill(folder: Path, *, first: int, dice: random.Random) -> set[int]:
    """Let a child write for a random while, kill it, and return what it had been promised."""
    out, err = (folder.with_name(f"{first}.{name}") for name in ("out", "err"))
    child = nursery_of(WRITER).start(
        ["-m", WRITER, str(folder), str(first)], os.environ, folder=Path.cwd(), out=out, err=err
    )
    # Every third dies while it opens the store, the others while they write.
    longest_s = 0.015
    if dice.random() >= 1 / 3:
        longest_s = 0.2
        until(lambda: out.stat().st_size or child.poll() is not None, what="it writes or ends")
    with suppress(subprocess.TimeoutExpired):
        child.wait(dice.uniform(0.0, longest_s))
    child.kill()
    assert child.wait() == -signal.SIGKILL, err.read_text()
    said = out.read_bytes().splitlines(keepends=True)
    return {int(line) for line in said if line.endswith(b"\n")}
