"""F3: trainer, worker's daemon, coordinator and recorder are killed while a run is recorded."""

import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import psutil
from tests.e2e.farm import Farm, select_pause, until
from tests.faults.machines import start_worker
from tests.faults.scale import rounds, tell

from lineshaft_records.documents import read_info
from lineshaft_records.layout import RunFolder
from lineshaft_records.reading import RunReader

KILLS: Final = rounds(3, 100)
VICTIMS: Final = ("trainer", "daemon", "coordinator", "recorder")

TRAINER = """
import os, signal
from lineshaft import run

gate, pid = run.params["gate"], os.getpid()
journal = os.open(run.params["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = 0
while not os.path.exists(gate):
    number += 1
    run.log({"pid": pid, "loss": 1 / number}, step=number)
    os.write(journal, b"%d %d\\n" % (pid, number))
    signal.sigtimedwait((), 0.004)
"""


def journal_of(path: Path) -> list[tuple[int, int]]:
    """Process and number of each row for which `run.log` returned."""
    if not path.exists():
        return []
    return [(int(pid), int(step)) for pid, step in map(str.split, path.read_text().splitlines())]


def recorder_of(made: Farm) -> psutil.Process | None:
    assert made.coordinator is not None
    try:
        for child in psutil.Process(made.coordinator.pid).children():
            if "lineshaft_coordinator.recorder" in child.cmdline():
                return child
    except psutil.Error:  # it ends while it is looked at
        pass
    return None


def is_closed(folder: RunFolder) -> bool:
    """Whether its record was begun, by a recorder that may just be back, and is whole."""
    begun = folder.info.exists()
    return begun and read_info(folder).status != "RUNNING" and not folder.live.exists()


class Run:
    """A job that logs and keeps a journal, and whoever can be killed beside it."""

    def __init__(self, made: Farm, journal: Path) -> None:
        self._made, self._journal = made, journal

    def goes_on(self) -> None:
        """Wait for rows of a process that was not killed."""
        before = len(journal_of(self._journal))
        until(lambda: len(journal_of(self._journal)) > before + 10, what="rows", within_s=90)

    def kill(self, victim: str) -> None:
        made = self._made
        match victim:
            case "trainer":
                os.kill(journal_of(self._journal)[-1][0], signal.SIGKILL)
            case "daemon":
                made.workers["w1"].kill()
                start_worker(made, "w1", "--slots", "1")
            case "coordinator":
                assert made.coordinator is not None
                made.coordinator.kill()
                made.start_coordinator()
            case _:
                # It comes back later and later when it dies in a row.
                recorder = until(lambda: recorder_of(made), what="a recorder", within_s=90)
                recorder.kill()


def test_s004_08_no_row_is_lost_or_doubled_whoever_is_killed(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made, seed = empty_farm, random.randrange(1 << 32)
    print(f"seed {seed}, {KILLS} kills of each of {VICTIMS}")
    dice = random.Random(seed)
    kills = [*VICTIMS] * KILLS
    dice.shuffle(kills)
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    with made.client() as client:
        start_worker(made, "w1", "--slots", "1")
        made.until_ready(client)
        job = client.run(
            "train.py",
            files={"train.py": TRAINER},
            params={"gate": str(gate), "journal": str(journal)},
            name="killed",
            retries=KILLS,
            backoff=(0.0, 0.0),
            lost_after=300.0,
        )
        run = Run(made, journal)
        for victim in kills:
            run.goes_on()
            for _ in range(dice.randrange(30)):
                select_pause()
            run.kill(victim)
        run.goes_on()
        gate.touch()

        job.result(120)
        folder = RunFolder(made.folder / "data" / "runs" / "killed" / str(job.id))
        until(lambda: is_closed(folder), what="the run is closed", within_s=120)

    assert read_info(folder).status == "FINISHED"
    pids, losses = (
        RunReader(folder).points([name], attempts="all")[name] for name in ("pid", "loss")
    )
    recorded = Counter(zip(map(int, pids.values), pids.steps, strict=True))
    told = set(journal_of(journal))
    assert set(recorded.values()) == {1}, f"twice: {recorded.most_common(3)}"
    assert told <= set(recorded), f"lost: {sorted(told - set(recorded))[:5]}"
    # A trainer can die between the row and its line in the journal; nothing else is more.
    assert len(recorded) - len(told) <= KILLS
    assert losses.values == [1 / step for step in losses.steps if step]
    assert len(set(pids.attempts)) == KILLS + 1, "each killed trainer was an attempt"
    seen = f"each of {len(told):,} rows in the record once"
    for victim in VICTIMS:
        tell("F3", f"kill -9 of the {victim} of a recorded run", KILLS, seen)
