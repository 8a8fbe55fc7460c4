"""How many rows are lost when who logs them is killed with SIGKILL, right after the last call."""

import subprocess
import time
from pathlib import Path

ROWS = 20_000
KILLS = 5
SETTLED_S = 30.0
SCRIPTS = {
    "lineshaft": """
import sys, time
from lineshaft_records import Run
made = Run("killed", sys.argv[3], base=sys.argv[1], console=False, provenance=False)
for step in range(int(sys.argv[2])):
    made.log_metrics({"loss": 0.5, "acc": 0.5}, step=step)
print("said", flush=True)
time.sleep(3600)
""",
    "expman": """
import sys, time
import expman
made = expman.Experiment("killed", run_name=sys.argv[3], base_dir=sys.argv[1],
    redirect_console=False, system_metrics_interval_secs=0, capture_provenance=False)
for step in range(int(sys.argv[2])):
    made.log_vector({"loss": 0.5, "acc": 0.5}, step=step)
print("said", flush=True)
time.sleep(3600)
""",
}
"""Programs: folder, number of rows, name of the run."""
COUNTS = {
    "lineshaft": """
import sys
from pathlib import Path
from lineshaft_records.layout import run_folder
from lineshaft_records.reading import RunReader
print(RunReader(run_folder(Path(sys.argv[1]), "killed", sys.argv[2])).table().num_rows)
""",
    "expman": """
import sys
import expman
print(len(expman.read_metrics(sys.argv[1] + "/killed/" + sys.argv[2])))
""",
}


def lost_rows(base: Path, python: str, system: str) -> dict[str, float]:
    """Log, kill and count, some times; returns the most that was lost in one of them."""
    lost = [_lost(base, python, system, f"r{number}") for number in range(KILLS)]
    return {f"rows lost of {ROWS:,} by kill -9, at most of {KILLS} times": float(max(lost))}


def _lost(base: Path, python: str, system: str, run: str) -> int:
    program = [python, "-c", SCRIPTS[system], str(base), str(ROWS), run]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        said = trainer.stdout.readline()
        trainer.kill()
    assert said == "said\n", f"{system} did not log: {said!r}"
    return ROWS - _kept(base, python, system, run)


def _kept(base: Path, python: str, system: str, run: str) -> int:
    """What is there when it has not grown for two seconds."""
    kept, changed_at = -1, time.monotonic()
    deadline = changed_at + SETTLED_S
    while time.monotonic() < min(changed_at + 2.0, deadline):
        command = [python, "-c", COUNTS[system], str(base), run]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        now = int(found.stdout) if found.returncode == 0 else 0
        if now != kept:
            kept, changed_at = now, time.monotonic()
    return kept
