"""The trainer in `examples/`, as the training server runs it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.finetune.training_bench import Town, is_complete, messages, town
from tests.meta.tree import ROOT

EXAMPLE = ROOT / "examples" / "training_server"
CONFIG = {"num_epochs": 4, "batch_size": 8, "learning_rate": 0.1}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path / "town", trainer=EXAMPLE) as made:
        yield made


def test_the_example_goes_on_at_the_next_step_as_if_nothing_had_been(place: Town) -> None:
    whole, paused = place.execute(**CONFIG), place.execute(**CONFIG, step_seconds=0.03)
    place.until_step(paused, 15)
    answer = place.ask("POST", f"/api/training/pause/{paused}")
    with place.socket(paused) as viewer:
        place.ask("POST", f"/api/training/resume/{paused}")
        heard = messages(viewer, until_message=is_complete)

    losses = [
        [
            (point["step"], point["train_loss"], point["eval_loss"])
            for point in place.ask("GET", f"/api/training/metrics/{job_id}")["metrics"]
            if point["step"] is not None
        ]
        for job_id in (whole, paused)
    ]
    assert heard[-1]["status"] == "completed"
    assert losses[0] == losses[1]
    assert f"goes on at step {answer['step'] + 1}" in place.log(paused)
    status = place.status(paused)
    assert (status["current_epoch"], status["total_epochs"]) == (4, 4)
    assert (status["train_samples"], status["val_samples"]) == (160, 40)
    assert status["best_eval_loss"] < 0.1


def test_the_example_runs_without_lineshaft(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import train, json; "
    program += "print(json.dumps(train.main({'num_epochs': 30})))"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    found = json.loads(done.stdout.splitlines()[-1])
    assert abs(found["slope"] - 3) < 0.2
    assert (tmp_path / "outputs" / "model.json").is_file()
