"""Pipeline jobs: files, entry points, parameters; what they tell while they run."""

import ctypes
import math
import os
import time
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft import run
from lineshaft_worker.execution.orders import AttemptKey, AttemptOrder
from lineshaft_worker.execution.reports import AttemptBegan, AttemptEvents


async def test_a_script_runs_as_main_in_the_folder_of_its_files(bench: ExecutionBench) -> None:
    files = {
        "job.py": """
import os, sys
from pathlib import Path
import helper
from lineshaft import run
if __name__ == "__main__":
    run.result({
        "helper": helper.NAME, "data": Path("data/in.txt").read_text(),
        "argv": sys.argv, "mode": oct(os.stat(".").st_mode & 0o777),
    })
""",
        "helper.py": "NAME = 'of the job'",
        "data/in.txt": "42",
    }

    value = await bench.value(bench.run(files, "job.py"))

    assert value == {"helper": "of the job", "data": "42", "argv": ["job.py"], "mode": "0o700"}


@pytest.mark.parametrize("entry_point", ["package.train:main", "package/train.py:main"])
async def test_a_function_gets_what_it_takes_of_the_parameters(
    bench: ExecutionBench, entry_point: str
) -> None:
    files = {
        "package/__init__.py": "",
        "package/train.py": "def main(lr, input_data, epochs=3): return [lr, epochs, input_data]",
    }

    key = bench.run(files, entry_point, params={"lr": 0.5}, input_data=[1, 2])

    assert await bench.value(key) == [0.5, 3, [1, 2]]


async def test_parameters_and_input_are_there_for_a_script(bench: ExecutionBench) -> None:
    program = "from lineshaft import run; run.result((dict(run.params), run.input_data()))"

    key = bench.run({"job.py": program}, "job.py", params={"a": 1}, input_data="in")

    assert await bench.value(key) == ({"a": 1}, "in")


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("main.py", "there is no file 'main.py'"),
        ("main.py:run", "there is no file 'main.py'"),
        ("main:run", "there is no module 'main'"),
        ("job:run", "'job' has no function 'run'"),
        ("job.py:VALUE", "something else than a function"),
        ("../job.py", "there is no file '../job.py'"),
    ],
)
async def test_an_entry_point_that_is_not_there_is_named_with_the_files_that_are(
    bench: ExecutionBench, entry_point: str, said: str
) -> None:
    failure = await bench.failure(bench.run({"job.py": "VALUE = 1", "b.py": ""}, entry_point))

    assert failure.cause == "entry_point"
    assert said in failure.message
    assert failure.message.endswith("the job has b.py, job.py")


async def test_an_import_that_fails_in_the_jobs_own_code_is_its_exception(
    bench: ExecutionBench,
) -> None:
    failure = await bench.failure(bench.run({"job.py": "import no_such_thing"}, "job:main"))

    assert (failure.cause, failure.type_name) == ("exception", "ModuleNotFoundError")


@pytest.mark.parametrize(
    ("program", "cause", "code"),
    [("raise SystemExit(3)", "exit", 3), ("import os; os._exit(4)", "exit", 4)],
)
async def test_a_scripts_exit_status_is_its_failure(
    bench: ExecutionBench, program: str, cause: str, code: int
) -> None:
    failure = await bench.failure(bench.run({"job.py": program}, "job.py"))

    assert (failure.cause, failure.exit_code) == (cause, code)


async def test_a_script_that_leaves_with_zero_has_succeeded(bench: ExecutionBench) -> None:
    assert await bench.value(bench.run({"job.py": "raise SystemExit(0)"}, "job.py")) is None


async def test_a_scripts_exception_is_in_its_output_as_well(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": "print('first')\n1 / 0"}, "job.py")

    failure = await bench.failure(key)

    assert failure.type_name == "ZeroDivisionError"
    assert failure.last_lines[-1] == "ZeroDivisionError: division by zero"
    assert bench.text(key) == "first\n"
    assert "job.py" in bench.text(key, "stderr")


async def test_a_script_that_leaves_a_pool_of_threads_open_ends_when_its_work_is_done(
    bench: ExecutionBench,
) -> None:
    source = """
from concurrent.futures import ThreadPoolExecutor
from lineshaft import run
pool = ThreadPoolExecutor(2)
pool.submit(run.result, "of the pool")
"""
    key = bench.run({"pool.py": source}, "pool.py")

    assert await bench.value(key) == "of the pool"


async def test_threads_and_exit_functions_of_a_script_come_to_their_end(
    bench: ExecutionBench,
) -> None:
    program = """
import atexit, threading
from lineshaft import run
atexit.register(lambda: print("at exit"))
threading.Timer(0.1, lambda: run.result("of the thread")).start()
"""
    key = bench.run({"job.py": program}, "job.py")

    assert await bench.value(key) == "of the thread"
    assert bench.text(key) == "at exit\n"


async def test_a_job_has_a_fresh_process_and_leaves_no_files(bench: ExecutionBench) -> None:
    warm = await bench.value(bench.call(os.getpid))
    program = "import os; from lineshaft import run; run.result((os.getpid(), os.getcwd()))"

    keys = [bench.run({"job.py": program}, "job.py") for _ in range(2)]
    values = [await bench.value(key) for key in keys]

    (first, folder), (second, _) = values  # type: ignore[misc]
    assert len({warm, first, second}) == 3
    await until(lambda: not Path(folder).exists())


async def test_a_damaged_bundle_is_refused(bench: ExecutionBench) -> None:
    order = AttemptOrder(key=AttemptKey("j", 1), kind="pipeline", name="j", payload=b"no bundle")
    bench.execution.start(order, 0)

    failure = await bench.failure(order.key)

    assert (failure.cause, "damaged" in failure.message) == ("unpickle", True)


async def test_events_come_in_order_with_their_bodies(bench: ExecutionBench) -> None:
    program = """
from lineshaft import run
run.progress(1, 3, phase="train")
run.log({"loss": float("nan"), "best": float("inf"), "lr": 1e-3}, step=7)
"""
    key = bench.run({"job.py": program}, "job.py")
    await bench.ended(key)

    (one, progress, first), (two, metrics, second) = bench.events(key)
    assert (one, progress, first) == (1, "progress", {"step": 1, "total": 3, "phase": "train"})
    assert (two, metrics, second["step"]) == (2, "metrics", 7)
    values = second["metrics"]
    assert isinstance(values, dict)
    assert math.isnan(values.pop("loss"))
    assert values == {"best": math.inf, "lr": 1e-3}


async def test_a_checkpoint_is_kept_as_it_was_until_the_attempt_is_settled(
    bench: ExecutionBench,
) -> None:
    program = """
from pathlib import Path
from lineshaft import run
for step in (1, 2):
    Path("model.pt").write_text(f"step {step}")
    run.checkpoint("model.pt", step=step)
run.artifact("model.pt", name="final")
run.artifact("missing.txt")
"""
    key = bench.run({"job.py": program}, "job.py")
    await bench.ended(key)

    kinds = [kind for _, kind, _ in bench.events(key)]
    bodies = [body for _, _, body in bench.events(key)]
    assert kinds == ["checkpoint", "checkpoint", "artifact", "notice"]
    kept = [Path(str(body["kept"])) for body in bodies[:3]]
    assert [path.read_text() for path in kept] == ["step 1", "step 2", "step 2"]
    assert [body.get("step") for body in bodies[:2]] == [1, 2]
    assert bodies[3]["code"] == "not_kept"
    bench.execution.settled(key)
    await until(lambda: not any(path.exists() for path in kept))


async def test_events_arrive_while_the_job_holds_the_gil(bench: ExecutionBench) -> None:
    def report_and_hold() -> None:
        run.progress(1)
        ctypes.PyDLL(None).sleep(60)

    key = bench.call(report_and_hold)
    await until(lambda: bench.of(AttemptBegan, key))
    began = time.monotonic()

    await until(lambda: bench.of(AttemptEvents, key))

    assert time.monotonic() - began < 0.25
    bench.execution.stop(key, 0.0)
    await bench.ended(key)


async def test_output_of_children_belongs_to_the_job(bench: ExecutionBench) -> None:
    program = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "print('of a child'); "
    "from lineshaft import run; run.progress(5)"], check=True)
"""
    key = bench.run({"job.py": program}, "job.py")
    await bench.ended(key)

    assert bench.text(key) == "of a child\n"
    assert "progress" in [kind for _, kind, _ in bench.events(key)]


async def test_a_flood_of_output_is_cut_with_one_notice(state_folder: Path) -> None:
    bench = ExecutionBench(state_folder, output_bytes_max=1_000_000)
    await bench.execution.open()
    key = bench.run({"job.py": "for _ in range(40000): print('x' * 99)"}, "job.py")
    following = bench.call(lambda: print("short"))

    await bench.ended(key)
    await bench.ended(following)

    assert len(bench.text(key)) == 1_000_000
    notices = [body["code"] for _, kind, body in bench.events(key) if kind == "notice"]
    assert notices == ["output_capped"]
    assert bench.text(following) == "short\n"
    await bench.close()


async def test_characters_are_not_cut_in_two(bench: ExecutionBench) -> None:
    program = "import sys; sys.stdout.write('äöü€🙂' * 60000); sys.stdout.flush()"
    key = bench.run({"job.py": program}, "job.py")
    await bench.ended(key)

    assert bench.text(key) == "äöü€🙂" * 60000


async def test_a_job_is_told_to_pause(bench: ExecutionBench) -> None:
    program = """
import time
from lineshaft import run
print("running", flush=True)
while not run.should_pause():
    time.sleep(0.005)
run.result("paused")
"""
    key = bench.run({"job.py": program}, "job.py")
    await until(lambda: "running" in bench.text(key))

    bench.execution.set_pause(key, "checkpoint")

    assert await bench.value(key) == "paused"
