"""kill -9 of the process that writes a record: nothing is lost, and nothing is there twice."""

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.e2e.farm import select_pause

from lineshaft_records.documents import RunInfo, make_experiment, read_info, write_info
from lineshaft_records.keeper import Keeper, run
from lineshaft_records.layout import RunFolder, run_folder
from lineshaft_records.reading import RunReader
from lineshaft_runtime.spool import SpoolWriter

ROWS = 200
KEEPER = """
import sys
from lineshaft_records import keeper, writer
keeper.READ_BYTES = 200
{plant}
sys.exit(keeper.main(sys.argv[1:]))
"""
# The position of a flush is written with the next one only, as if it had a file of its own.
POSITION_BESIDE_THE_ROWS = """
append, before = writer.RunWriter.append, [{}]
def late(self, rows, position, sizes=None):
    append(self, rows, before[0] or self.position, sizes)
    before[0] = position
writer.RunWriter.append = late
"""


def prepared(base: Path) -> RunFolder:
    """A run that told everything, and that nobody has kept yet."""
    folder = run_folder(base, "e", "r")
    make_experiment(folder.path.parent)
    folder.live.mkdir(parents=True)
    write_info(folder, RunInfo(name="r", experiment="e", started_at=datetime.now(UTC)))
    spool = SpoolWriter(str(folder.spool))
    for step in range(ROWS):
        spool.write("metrics", {"metrics": {"a": float(step)}, "step": step})
    spool.write("close", {"status": "FINISHED"})
    return folder


def keep_with_kills(folder: RunFolder, dice: random.Random, plant: str = "") -> int:
    """Keep the run, with kills after random progress; returns how many there were."""
    kills = 0
    while folder.live.exists():
        command = [sys.executable, "-c", KEEPER.format(plant=plant), str(folder.path)]
        command += ["--pid", str(os.getpid()), "--flush-rows", "3", "--flush-ms", "1"]
        keeper = subprocess.Popen(command)
        enough = size_of(folder) + dice.randrange(1, 4000)
        while keeper.poll() is None:
            if kills < 4 and size_of(folder) > enough:
                keeper.kill()
                keeper.wait()
                kills += 1
                break
            select_pause()
    return kills


def size_of(folder: RunFolder) -> int:
    return sum(path.stat().st_size for path in folder.segments())


def steps_of(folder: RunFolder) -> list[int | None]:
    return RunReader(folder).points(["a"], attempts="all")["a"].steps


@pytest.mark.parametrize("seed", range(2))
def test_s004_08_kills_of_the_writer_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    folder = prepared(tmp_path)

    kills = keep_with_kills(folder, random.Random(seed))

    assert kills > 0
    assert steps_of(folder) == list(range(ROWS))
    assert read_info(folder).status == "FINISHED"


def test_a_keeper_after_one_that_read_the_end_closes_the_run(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    earlier = Keeper(folder, flush_rows=3, flush_s=0.0)
    while earlier.status is None:
        earlier.step()
    earlier.writer.leave()  # As if it were killed here.

    run(folder, os.getpid(), flush_rows=3, flush_s=0.001)

    assert steps_of(folder) == list(range(ROWS))
    assert read_info(folder).status == "FINISHED"


def test_a_position_that_is_not_saved_with_its_rows_is_noticed(tmp_path: Path) -> None:
    for seed in range(10):  # Where the kills fall is not ours to say.
        folder = prepared(tmp_path / str(seed))
        assert keep_with_kills(folder, random.Random(seed), POSITION_BESIDE_THE_ROWS) > 0
        if len(steps_of(folder)) > ROWS:
            return
    pytest.fail("every row was there once, with a position that is written too late")


def test_a_line_that_a_full_disk_tore_costs_only_itself(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    lines = folder.spool.read_bytes().splitlines(keepends=True)
    lines[10] = lines[10][:20] + b"\n"
    folder.spool.write_bytes(b"".join(lines))
    assert json.loads(lines[11])["k"] == "metrics"

    keep_with_kills(folder, random.Random(2))

    assert steps_of(folder) == [step for step in range(ROWS) if step != 10]
