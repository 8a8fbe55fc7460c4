"""Processes that a job starts report for it: they know its attempt from their environment."""

from pathlib import Path

from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft_worker.execution.reports import Paused

PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "rank.py"], check=True)
"""
SAVES = """
import os
from lineshaft import run
open("model.pt", "w").write("weights")
run.checkpoint("model.pt", step=3)
run.artifact("model.pt", name="best.pt")
os.remove("model.pt")
"""
PAUSES = """
import signal
from lineshaft import run
print("running", flush=True)
while not run.should_pause():
    signal.sigtimedwait((), 0.005)
open("model.pt", "w").write("weights")
run.checkpoint("model.pt", step=4)
run.paused()
"""


async def test_what_a_child_keeps_is_kept(bench: ExecutionBench) -> None:
    for _ in range(2):  # The second attempt may have the same, warm runner.
        key = bench.run({"job.py": PARENT, "rank.py": SAVES}, "job.py")
        await bench.ended(key)

        kept = [body for _, kind, body in bench.events(key) if kind in ("checkpoint", "artifact")]
        assert [_read(each["kept"]) for each in kept] == ["weights"] * 2
        folder = bench.execution.kept_folder(key)
        assert folder is not None
        assert all(Path(str(each["kept"])).is_relative_to(folder) for each in kept)


async def test_a_job_pauses_when_its_child_saves_and_ends(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": PARENT, "rank.py": PAUSES}, "job.py")
    await until(lambda: "running" in bench.text(key))

    bench.execution.set_pause(key, "checkpoint")

    assert (await bench.ended(key)).outcome == Paused()


async def test_what_a_child_saved_for_an_earlier_wish_is_no_pause(bench: ExecutionBench) -> None:
    again = PAUSES.replace(
        "run.paused()",
        "print('saved', flush=True)\n"
        "while run.should_pause(): signal.sigtimedwait((), 0.005)\n"
        "print('back', flush=True)\n"
        "while not run.should_pause(): signal.sigtimedwait((), 0.005)\n",
    )
    program = PARENT + "from lineshaft import run\nrun.result(5)"
    key = bench.run({"job.py": program, "rank.py": again}, "job.py")
    for mode, word in (("checkpoint", "saved"), ("none", "back")):
        await until(lambda: "running" in bench.text(key))
        bench.execution.set_pause(key, mode)
        await until(lambda word=word: word in bench.text(key))

    bench.execution.set_pause(key, "checkpoint")

    assert await bench.value(key) == 5


def _read(path: object) -> str:
    return Path(str(path)).read_text()
