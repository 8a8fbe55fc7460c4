"""A job that says and does, line by line, what its test writes into a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineshaft import Client

TRAINING = """
import json, time
from pathlib import Path
from lineshaft import run

def main(score):
    lines, file = 0, Path(score)
    while True:
        text = file.read_text() if file.exists() else ""
        for line in text.split("\\n")[lines:-1]:
            lines += 1
            verb, rest = json.loads(line)
            if verb == "log":
                run.log(rest["metrics"], step=rest["step"])
            elif verb == "many":
                for step in range(rest["first"], rest["last"] + 1):
                    run.log({"loss": 1 / step, "blob": "x" * rest["size"]}, step=step)
            elif verb == "progress":
                run.progress(rest["step"], rest["total"])
            elif verb == "checkpoint":
                Path("model.bin").write_text("weights")
                run.checkpoint("model.bin", step=rest["step"])
            elif verb == "print":
                print(rest)
            elif verb == "end":
                return rest
            elif verb == "fail":
                raise RuntimeError(rest)
        if run.should_pause():
            Path("state").write_text("saved")
            run.checkpoint("state", step=lines)
            run.paused()
        time.sleep(0.005)
"""


@dataclass
class Conducted:
    """A running job, and the file that tells it what to do."""

    job: Any
    score: Path

    @property
    def job_id(self) -> str:
        return str(self.job.id)

    def do(self, verb: str, rest: Any = None) -> None:
        with self.score.open("a") as file:
            file.write(json.dumps([verb, rest]) + "\n")

    def log(self, step: int, **metrics: Any) -> None:
        self.do("log", {"metrics": metrics, "step": step})


def conducted(client: Client, folder: Path, **options: Any) -> Conducted:
    """Submit such a job."""
    folder.mkdir(parents=True, exist_ok=True)
    score = folder / f"score-{len(list(folder.iterdir()))}"
    score.touch()
    files = {"train.py": TRAINING.encode()}
    job = client.run("train.py:main", files=files, params={"score": str(score)}, **options)
    return Conducted(job, score)
