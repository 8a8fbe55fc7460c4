"""Python pipeline jobs: files, an entry point, input and parameters; progress and output live."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, until

import lineshaft
from lineshaft import Client

TRAIN = """
import sys
from lineshaft import run

def main(lr, epochs=3, input_data=None):
    for epoch in range(1, epochs + 1):
        run.progress(epoch, epochs, phase="train")
        run.log({"loss": 1.0 / epoch}, step=epoch)
        print(f"epoch {epoch}")
    print("to stderr", file=sys.stderr)
    return {"lr": lr, "sum": sum(input_data or [])}

if __name__ == "__main__":
    run.result(main(lr=run.params["lr"], input_data=run.input_data()))
"""


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return path


@pytest.mark.parametrize("entry_point", ["train.py", "train.py:main", "train:main"])
def test_parameters_and_input_reach_every_kind_of_entry_point(
    client: Client, train: Path, entry_point: str
) -> None:
    job = client.run(entry_point, files=[train], params={"lr": 0.5}, input_data=[1, 2, 3])

    assert job.result(30) == {"lr": 0.5, "sum": 6}


def test_progress_metrics_and_output_are_told(client: Client, train: Path) -> None:
    job = client.run("train.py:main", files=[train], params={"lr": 1.0})

    events = list(job.events())

    kinds = [type(event).__name__ for event in events]
    assert kinds.count("Progress") >= 3
    assert kinds.count("Metrics") == 3
    assert kinds[-1] == "Finished"
    text = "".join(str(line) for line in job.logs())
    assert "epoch 2" in text
    assert "to stderr" in text


def test_an_entry_point_that_is_missing_names_the_files_there_are(
    client: Client, train: Path
) -> None:
    with pytest.raises(lineshaft.LineshaftError, match=r"nowhere\.py"):
        client.run("nowhere.py", files=[train]).result(30)


def test_an_entry_point_that_raises_gives_its_exception_and_last_output(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "bad.py"
    path.write_text("print('about to fail')\nraise RuntimeError('broke')\n")

    with pytest.raises(Exception, match="broke"):
        client.run("bad.py", files=[path]).result(30)


def test_a_running_pipeline_is_cancelled(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "forever.py"
    path.write_text("import signal\nprint('here', flush=True)\nsignal.pause()\n")
    job = client.run("forever.py", files=[path])
    until(lambda: job.status == "running", what="it runs")

    job.cancel()

    with pytest.raises(Exception, match=re.compile("cancel", re.IGNORECASE)):
        job.result(30)
    assert until(lambda: job.status == "cancelled")


def test_a_parameter_that_nobody_takes_is_named(client: Client, train: Path) -> None:
    with pytest.raises(lineshaft.LineshaftError, match="learning_rat"):
        client.run("train.py:main", files=[train], params={"learning_rat": 1}).result(30)
