"""Jobs that are asked to pause, and jobs that are made to stand still."""

import time
from pathlib import Path

from tests.integration.execution.execution_bench import ExecutionBench, processes_of, until

from lineshaft_worker.execution.reports import AttemptFroze, Paused, Stopped, Succeeded
from lineshaft_worker.runner.files import read_current
from lineshaft_worker.runner.records import decode_current

SAVING = """
import time
from lineshaft import run
print("running", flush=True)
while not run.should_pause():
    time.sleep(0.005)
open("model.pt", "w").write("weights")
run.checkpoint("model.pt", step=7)
run.paused()
"""


async def test_a_job_that_saves_when_asked_and_ends_has_paused(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": SAVING}, "job.py")
    await until(lambda: "running" in bench.text(key))

    bench.execution.set_pause(key, "checkpoint")

    assert (await bench.ended(key)).outcome == Paused()
    (body,) = [body for _, kind, body in bench.events(key) if kind == "checkpoint"]
    assert _read(body["kept"]) == "weights"


async def test_a_job_whose_pause_was_taken_back_has_ended(bench: ExecutionBench) -> None:
    program = SAVING.replace(
        "run.paused()",
        "print('saved', flush=True)\nwhile run.should_pause(): time.sleep(0.005)\nrun.result(5)",
    )
    key = bench.run({"job.py": program}, "job.py")
    await until(lambda: "running" in bench.text(key))
    bench.execution.set_pause(key, "checkpoint")
    await until(lambda: "saved" in bench.text(key))

    bench.execution.set_pause(key, "none")

    assert await bench.value(key) == 5


async def test_a_signal_reaches_only_who_handles_it(bench: ExecutionBench) -> None:
    program = """
import signal, sys, time
if sys.argv[0] == "handles.py":
    signal.signal(signal.SIGUSR1, lambda *_: print("signalled", flush=True))
from lineshaft import run
print("running", flush=True)
while not run.should_pause():
    time.sleep(0.005)
time.sleep(0.1)
"""
    keys = [
        bench.run({name: program}, name, lane=lane)
        for lane, name in enumerate(("handles.py", "plain.py"))
    ]
    for key in keys:
        await until(lambda key=key: "running" in bench.text(key))
        bench.execution.set_pause(key, "checkpoint")

    outcomes = [(await bench.ended(key)).outcome for key in keys]

    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    assert ["signalled" in bench.text(key) for key in keys] == [True, False]


COUNTING = """
import subprocess, sys, time
count = "import time\\nfor n in range(10**6):\\n print(n, flush=True); time.sleep(0.01)"
subprocess.run([sys.executable, "-c", count])
"""


async def test_a_frozen_job_stands_still_with_its_children(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": COUNTING}, "job.py", run_s=60.0)
    await until(lambda: bench.text(key).count("\n") > 3)

    bench.execution.set_pause(key, "freeze")
    await until(lambda: bench.of(AttemptFroze, key))
    states = [_state(pid) for pid in processes_of(bench.state_folder)]
    bench.execution.set_pause(key, "none")
    await until(lambda: len(bench.of(AttemptFroze, key)) == 2)
    seen = bench.text(key).count("\n")
    await until(lambda: bench.text(key).count("\n") > seen + 3)

    # The shim stays awake: it is who lets them go on.
    assert sorted(states)[-2:] == ["T", "T"]
    assert [report.is_frozen for report in bench.of(AttemptFroze, key)] == [True, False]


async def test_a_frozen_job_can_be_stopped(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": COUNTING}, "job.py")
    await until(lambda: bench.text(key).count("\n") > 3)
    bench.execution.set_pause(key, "freeze")
    await until(lambda: bench.of(AttemptFroze, key))

    bench.execution.stop(key, 5.0)

    assert (await bench.ended(key)).outcome == Stopped()
    await until(lambda: not processes_of(bench.state_folder))


async def test_a_later_daemon_does_not_count_as_run_what_stood_still_before(
    state_folder: Path,
) -> None:
    first, second = ExecutionBench(state_folder), ExecutionBench(state_folder)
    await first.execution.open()
    key = first.run({"job.py": COUNTING}, "job.py", run_s=60.0)
    await until(lambda: first.text(key).count("\n") > 3)
    seen: list[float] = []
    for mode in ("freeze", "none", "freeze"):
        seen.append(time.monotonic())
        first.execution.set_pause(key, mode)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await until(lambda: len(first.of(AttemptFroze, key)) == len(seen))
        seen[-1] = time.monotonic() if mode == "freeze" else seen[-1]
    await first.execution.close(keep_running=True)

    await second.execution.open()

    attempt = second.execution._attempts[key]
    record = read_current(str(attempt.folder))
    assert record is not None
    assert attempt.began is not None
    assert attempt.began - decode_current(record).started_monotonic >= seen[1] - seen[0]
    assert attempt.froze_at is not None
    assert attempt.froze_at <= seen[2]
    await second.close()


def _read(path: object) -> str:
    return Path(str(path)).read_text()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
