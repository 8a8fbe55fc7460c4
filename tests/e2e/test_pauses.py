"""A training that is paused on one machine and goes on on another, as if nothing had been."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.farm import Farm, until

from lineshaft import Client
from lineshaft.errors import NotPausedError
from lineshaft.job_events import Progress

STEPS = 60
TRAINING = """
import json, time
from pathlib import Path
import numpy as np
from lineshaft import run

def main(steps, gate):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(64, 3)); y = x @ np.array([1.0, -2.0, 0.5])
    first, w, losses = 0, np.zeros(3), []
    if (saved := run.latest_checkpoint()) is not None:
        state = json.loads(Path(saved.path).read_text())
        first, w, losses = saved.step, np.array(state["w"]), state["losses"]
    for step in range(first, steps):
        error = x @ w - y
        losses.append(float(error @ error))
        w = w - 0.01 * (x.T @ error) / len(x)
        run.progress(step + 1, steps)
        while step == steps // 2 and gate and not Path(gate).exists() and not run.should_pause():
            time.sleep(0.01)
        if run.should_pause():
            Path("state.json").write_text(json.dumps({"w": w.tolist(), "losses": losses}))
            run.checkpoint("state.json", step=step + 1, metadata={"loss": losses[-1]})
            run.paused()
    Path("outputs/deep").mkdir(parents=True)
    Path("outputs/deep/curve.json").write_text(json.dumps(losses))
    return losses
"""


@pytest.fixture
def client(empty_farm: Farm) -> Iterator[Client]:
    farm = empty_farm
    farm.start_worker("first", "--slots", "1")
    with farm.client() as client:
        farm.until_ready(client)
        yield client


def submit(client: Client, gate: Path | None, **options: Any) -> Any:
    params = {"steps": STEPS, "gate": str(gate) if gate is not None else ""}
    return client.run(
        "train.py:main", files={"train.py": TRAINING.encode()}, params=params, **options
    )


def until_halfway(job: Any) -> None:
    for event in job.events():
        if isinstance(event, Progress) and event.step > STEPS // 2:
            return


def test_a_paused_training_goes_on_elsewhere_with_the_same_curve(
    empty_farm: Farm, client: Client, tmp_path: Path
) -> None:
    farm = empty_farm
    whole = submit(client, None).result(60)
    job = submit(client, tmp_path / "never")
    until_halfway(job)

    assert job.pause(grace=30) == "paused"
    assert job.status == "paused"
    (checkpoint,) = job.checkpoints()
    farm.workers.pop("first").terminate()
    farm.start_worker("second", "--slots", "1")
    farm.until_ready(client, "second")
    assert job.status == "paused"
    job.resume()
    curve = job.result(60)

    assert checkpoint.step == STEPS // 2 + 1
    assert curve == whole
    story: Any = job.story()
    started = [r for r in story if r["type"] == "AttemptStarted"]
    assert [(r["attempt"], r["worker_id"]) for r in started] == [(1, "first"), (2, "second")]


def test_what_a_job_left_is_downloaded_whole_and_checked(
    empty_farm: Farm, client: Client, tmp_path: Path
) -> None:
    farm = empty_farm
    job = submit(client, None)
    curve = job.result(60)
    (artifact,) = job.artifacts()
    seen: list[tuple[int, int]] = []

    path = artifact.download(tmp_path / "got.json", progress=lambda *each: seen.append(each))

    assert artifact.name == "deep/curve.json"
    assert json.loads(path.read_text()) == curve
    assert seen[-1] == (artifact.size_bytes, artifact.size_bytes)
    token = (farm.home / "token").read_text().strip()
    base = f"http://127.0.0.1:{farm.port}/api/v1/jobs/{job.id}/files"
    headers = {"Authorization": f"Bearer {token}"}
    (file,) = httpx.get(base, headers=headers).json()
    part = httpx.get(f"{base}/{file['file_id']}", headers={**headers, "Range": "bytes=1-4"})
    assert (part.status_code, part.content) == (206, path.read_bytes()[1:5])
    assert part.headers["etag"] == f'"{artifact.sha256}"'


def test_a_job_that_does_not_ask_goes_on(client: Client) -> None:
    program = b"import time\nfor n in range(600): print(n, flush=True); time.sleep(0.05)"
    job = client.run("slow.py", files={"slow.py": program})
    until(lambda: job.status == "running", what="it runs")

    with pytest.raises(NotPausedError, match="does it ask"):
        job.pause(grace=0.5)

    assert job.status == "running"
    job.cancel()


def test_a_frozen_job_is_thawed_and_one_can_be_cancelled(client: Client) -> None:
    program = b"import time\nfor n in range(600): print(n, flush=True); time.sleep(0.05)"
    job = client.run("slow.py", files={"slow.py": program})
    until(lambda: job.status == "running", what="it runs")

    assert job.pause(freeze=True) == "frozen"
    assert job.status == "frozen"
    assert job.resume() == "running"
    assert job.pause(freeze=True) == "frozen"
    job.cancel()

    until(lambda: job.status == "cancelled", what="it is over")


def test_a_retry_goes_on_from_its_checkpoint(client: Client) -> None:
    program = b"""
from pathlib import Path
from lineshaft import run
saved = run.latest_checkpoint()
if saved is None:
    Path("model").mkdir()
    Path("model/w.txt").write_text("weights")
    run.checkpoint("model", step=5)
    raise RuntimeError("once")
run.result([saved.step, Path(saved.path, "w.txt").read_text(), saved.attempt])
"""
    job = client.run("job.py", files={"job.py": program}, retries=1)

    assert job.result(60) == [5, "weights", 1]
