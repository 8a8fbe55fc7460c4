"""Measures how soon a user is told of what cannot work; no download is needed for any of it.

Usage: python -m benchmarks.preflight [--rounds 5]

A coordinator and a worker with one slot, as processes, and a folder of no packages as the only
index. Prints a Markdown table: seconds from the call to the error, the median and the longest. Each
is told before it takes a slot or a GPU of the worker: no attempt of it ran for any time.
"""

import argparse
import importlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lineshaft
from benchmarks.processes import adopt_orphans, end_descendants
from benchmarks.systems.lineshaft_farm import Adapter
from benchmarks.table import markdown
from lineshaft.errors import LineshaftError, NoWorkerFitsError

PLAIN = "def main():\n    return 1\n"
LOCAL_MODULE = "lineshaft_bench_away"
OTHER_PYTHON = "3.4"
SETTLED_S = 120.0

Deed = Callable[[lineshaft.Client], object]


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.preflight", description=__doc__)
    flags.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    rounds = flags.parse_args().rounds
    adopt_orphans()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-preflight-") as name:
            print(markdown(measure(Path(name), rounds)), flush=True)
    finally:
        end_descendants()


def measure(folder: Path, rounds: int) -> list[list[str]]:
    """Lines of the table."""
    (folder / "packages").mkdir()
    os.environ |= {
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder / "packages"),
        "UV_CACHE_DIR": str(folder / "cache"),
    }
    farm = Adapter(folder, 1)
    farm.start()
    try:
        farm.client.submit(pow, 2, 2).result()
        wait_until_settled(farm.client)
        with installed_here_alone(folder):
            lines = [["what cannot work", "told after (s)", "at most (s)", "error"]]
            for name, deed in FAULTS.items():
                told = [told_after(farm.client, deed) for _ in range(rounds)]
                seconds = [each for each, _ in told]
                median, most = statistics.median(seconds), max(seconds)
                lines.append([name, f"{median:.3f}", f"{most:.3f}", f"`{told[0][1]}`"])
        return lines
    finally:
        farm.stop()


def wait_until_settled(client: lineshaft.Client) -> None:
    """Return once nobody waits any more for workers that may yet come after the start."""
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        job = client.run("job.py:main", files={"job.py": PLAIN}, tags=["settled"])
        try:
            job.result(1)
        except NoWorkerFitsError:
            return
        except TimeoutError:
            job.cancel()
    raise TimeoutError("the coordinator still waits for workers")


def told_after(client: lineshaft.Client, deed: Deed) -> tuple[float, str]:
    """Seconds until the error, and its name."""
    before = {each["job_id"] for each in client.jobs(limit=1000)}  # type: ignore[union-attr,call-overload,index]  # JSON
    began = time.perf_counter()
    try:
        deed(client)
    except LineshaftError as error:
        took_s, name = time.perf_counter() - began, type(error).__name__
    else:
        raise AssertionError("it worked")
    jobs: Any = client.jobs(limit=1000)
    for job_id in {each["job_id"] for each in jobs} - before:
        story: Any = client.story(job_id)
        ends = [each["outcome"] for each in story if each["type"] == "JobFinished"]
        assert not any(end.get("run_s") for end in ends), "it took a slot"
    return took_s, name


@contextmanager
def installed_here_alone(folder: Path) -> Iterator[None]:
    """Have a module that the worker lacks, and that counts as installed."""
    place = folder / "lib" / "site-packages"
    place.mkdir(parents=True)
    (place / f"{LOCAL_MODULE}.py").write_text("class Thing: pass\n")
    sys.path.insert(0, str(place))
    try:
        yield
    finally:
        sys.path.remove(str(place))


def run(client: lineshaft.Client, source: str = PLAIN, **options: Any) -> object:
    entry_point = options.pop("entry_point", "job.py:main")
    return client.run(entry_point, files={"job.py": source}, **options).result(60)


def call_with_lock(client: lineshaft.Client) -> object:
    lock = threading.Lock()

    def asks() -> bool:
        return lock.locked()

    return client.submit(asks).result(60)


def call_with_thing(client: lineshaft.Client) -> object:
    return client.submit(print, importlib.import_module(LOCAL_MODULE).Thing()).result(60)


FAULTS: dict[str, Deed] = {
    "a function that cannot be pickled": call_with_lock,
    "an argument whose module the worker has not": call_with_thing,
    "a script that imports what is not there": lambda client: run(
        client, f"import lsnowhere\n{PLAIN}"
    ),
    "a Python that no worker has": lambda client: run(client, python=OTHER_PYTHON),
    "a function for another Python": lambda client: (
        client.options(python=OTHER_PYTHON).submit(pow, 2, 2).result(60)
    ),
    "an entry point without its file": lambda client: run(client, entry_point="jobs.py"),
    "an entry point without its function": lambda client: run(client, entry_point="job.py:mian"),
    "a requirement that the index has not": lambda client: run(client, requirements=["lstiny==7"]),
    "an import that its requirements lack": lambda client: run(
        client, f"import lsnowhere\n{PLAIN}", requirements=[]
    ),
}

if __name__ == "__main__":
    main()
