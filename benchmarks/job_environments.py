"""Measures what an environment of its own costs a job: first build, second start, warm, 32 at once.

Usage: python -m benchmarks.job_environments [--cache FOLDER] [--many 32] [--only lineshaft]

Needs an index of packages.

Prints one JSON line a figure, and at the end the table of docs/environments.md. Seconds from the
submission to the first line of the job's code; one slot (many: two), packages from the index as all
get them, and caches of its own for each system: first build: nothing is in the cache; known
packages: another environment of packages in the cache; second start: the environment is there, no
runner; warm: a runner of it is there; many: jobs submitted at once that need one new environment,
until the last has begun. Three minutes on a machine that does other things.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lineshaft
from benchmarks.environments import CannotInstallError, Environments
from benchmarks.processes import adopt_orphans, end_descendants
from benchmarks.systems import SYSTEMS
from benchmarks.systems.lineshaft_farm import Adapter
from benchmarks.table import markdown, number

CACHE = Path.home() / ".cache" / "lineshaft-bench"
PACKAGES = ["requests==2.32.3", "idna==3.10", "certifi==2025.1.31", "urllib3==2.3.0"]
IDNAS = ("3.4", "3.5", "3.6", "3.7", "3.8", "3.9")
"""One version of one package for each further environment."""
Cells = dict[tuple[str, str], float | str]
"""Seconds, or why there are none, by what and system."""
BUILT = "many: environments built"
SYSTEMS_SHOWN = {
    "lineshaft": "Lineshaft",
    "venv + pip": "`python -m venv` + pip",
    "ray runtime_env": "Ray `runtime_env`",
}
LABELS = {
    "first build": "First build, nothing cached",
    "known packages": "Another environment of cached packages",
    "second start": "Environment there, no runner",
    "warm": "A runner of it is kept",
}
PATIENCE_S = 120.0
REST_S = 4.0
SCRIPT = (
    b"import time\nat = time.time()\nimport requests\nfrom lineshaft import run\nrun.result(at)\n"
)
RAY_KIND = replace(
    SYSTEMS["ray"], environment="ray-with-pip", requirements=("ray", "virtualenv", "pip")
)
"""Ray makes an environment as a copy of its own, and puts uv into it by pip."""
RAY = """
import json, sys, time
import ray
packages, others, many = json.loads(sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

def at():
    import time
    found = time.time()
    import requests
    return found

def start(names, count=1):
    began = time.time()
    call = ray.remote(at).options(runtime_env={"uv": names}, num_cpus=1 if count == 1 else 0.01)
    return max(ray.get([call.remote() for _ in range(count)])) - began

def tell(what, seconds):
    print(json.dumps({"what": what, "s": seconds}), flush=True)

tell("first build", start(packages[0]))
tell("known packages", start(others[0]))
# Ray removes what nobody has used for a while, and keeps its worker: this is its warm start.
tell("warm", sorted(start(packages[0]) for _ in range(5))[2])
tell("many", start(others[1], many))
"""


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.job_environments")
    flags.add_argument("--cache", type=Path, default=CACHE, help="where Ray is installed")
    flags.add_argument("--many", type=int, default=32, help="jobs at once; default %(default)s")
    flags.add_argument("--only", default="", help="one of the systems, by its name")
    chosen = flags.parse_args()
    adopt_orphans()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-environments-") as name:
            folder = Path(name)
            systems = {
                "venv + pip": with_pip(folder / "pip"),
                "ray runtime_env": with_ray(folder / "ray", chosen.cache, chosen.many),
                "lineshaft": with_lineshaft(folder / "lineshaft", chosen.many),
            }
            cells: Cells = {}
            for system, found in systems.items():
                if chosen.only not in ("", system):
                    continue
                for what, value in found:
                    cells[what, system] = value
                    figure = (
                        {"s": round(value, 3)} if isinstance(value, float) else {"skipped": value}
                    )
                    print(json.dumps({"system": system, "what": what, **figure}), flush=True)
            print(markdown(table(cells, chosen.many)), flush=True)
    finally:
        end_descendants()


def table(cells: Cells, many: int) -> list[list[str]]:
    """Lines of the table; a dash where a system has no such thing."""
    labels = LABELS | {"many": f"{many} jobs at once with one new key, until the last began"}
    lines = [["", *SYSTEMS_SHOWN.values()]]
    for what, label in labels.items():
        values = [cells.get((what, system)) for system in SYSTEMS_SHOWN]
        shown = [number(value) if isinstance(value, float) else "-" for value in values]
        if what == "many" and isinstance(built := cells.get((BUILT, "lineshaft")), float):
            shown[0] += f", {built:.0f} built"
        lines.append([label, *shown])
    return lines


def other(version: str) -> list[str]:
    return [*(each for each in PACKAGES if not each.startswith("idna")), f"idna=={version}"]


def with_lineshaft(folder: Path, many: int) -> Iterator[tuple[str, float | str]]:
    folder.mkdir()
    os.environ["UV_CACHE_DIR"] = str(folder / "cache")
    farm = Adapter(folder, 1)
    farm.start()
    try:
        client = farm.client
        yield "first build", begun(client, PACKAGES)
        # A runner of another environment takes the only slot, so the earlier one has none.
        yield "known packages", begun(client, other(IDNAS[0]))
        pairs = [(begun(client, PACKAGES), begun(client, other(IDNAS[0]))) for _ in range(3)]
        yield "second start", statistics.median(each for pair in pairs for each in pair)
        yield "warm", statistics.median(begun_rested(client, other(IDNAS[0])) for _ in range(5))
    finally:
        farm.stop()
    # Ray has both processors for these: two workers of one machine, which share environments.
    pair = Adapter(folder / "pair", 2)
    pair.start()
    try:
        yield "many", begun(pair.client, other(IDNAS[1]), many)
        yield BUILT, float(built_with(pair.home, IDNAS[1]))
    finally:
        pair.stop()


def begun_rested(client: lineshaft.Client, requirements: list[str]) -> float:
    """The same once the runner that replaces the last job's has had time to start."""
    time.sleep(REST_S)
    return begun(client, requirements)


def begun(client: lineshaft.Client, requirements: list[str], count: int = 1) -> float:
    """Seconds until the last of so many jobs runs its first line."""
    began = time.time()
    jobs = [
        client.run("job.py", files={"job.py": SCRIPT}, requirements=requirements)
        for _ in range(count)
    ]
    ats: list[Any] = [job.result(timeout=PATIENCE_S) for job in jobs]
    return float(max(ats)) - began


def built_with(home: Path, version: str) -> int:
    named = f"idna-{version}.dist-info"
    return len(list(home.glob(f"environments/*/lib/python3*/site-packages/{named}")))


def with_pip(folder: Path) -> Iterator[tuple[str, float | str]]:
    folder.mkdir()
    environ = {**os.environ, "PIP_CACHE_DIR": str(folder / "cache")}
    yield "first build", made_by_pip(folder / "one", PACKAGES, environ)
    yield "known packages", made_by_pip(folder / "two", other(IDNAS[0]), environ)
    python = folder / "one" / "bin" / "python"
    yield "second start", statistics.median(started(python, environ) for _ in range(5))
    yield "warm", "a script is a new process each time"
    yield "many", "nobody keeps several from building the same: each would do what the first does"


def made_by_pip(place: Path, packages: list[str], environ: dict[str, str]) -> float:
    began = time.time()
    subprocess.run([sys.executable, "-m", "venv", place], check=True, env=environ)
    install = [place / "bin" / "pip", "install", "--quiet", *packages]
    subprocess.run(install, check=True, env=environ, timeout=PATIENCE_S)
    return time.time() - began + started(place / "bin" / "python", environ)


def started(python: Path, environ: dict[str, str]) -> float:
    began = time.time()
    program = "import time; print(time.time()); import requests"
    done = subprocess.run(
        [python, "-c", program], check=True, env=environ, capture_output=True, text=True
    )
    return float(done.stdout) - began


def with_ray(folder: Path, cache: Path, many: int) -> Iterator[tuple[str, float | str]]:
    folder.mkdir()
    try:
        python = Environments(cache).python(RAY_KIND)
    except CannotInstallError as error:
        yield "all", str(error)
        return
    environ = {**os.environ, "UV_CACHE_DIR": str(folder / "cache"), **(SYSTEMS["ray"].variables)}
    packages = [[PACKAGES], [other(IDNAS[0]), other(IDNAS[1])], many]
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            [python, "-c", RAY, json.dumps(packages)], env=environ, text=True, check=False,
            stdout=subprocess.PIPE, stderr=errors, timeout=3 * PATIENCE_S, cwd=folder,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            row = json.loads(line)
            yield row["what"], float(row["s"])
        if done.returncode:
            errors.seek(0)
            yield "the rest", (errors.read().strip().splitlines() or ["?"])[-1][:300]


if __name__ == "__main__":
    main()
