"""Histograms and pictures that a job tells are in the record of its run."""

import json
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.farm import farm, until
from tests.e2e.test_run_records import folder_of, get, recorder_of, steps_of, until_closed

STEPS = 100
SHOW = f"""
import time
from lineshaft import run
for step in range({STEPS}):
    run.histogram("weights", [float(step), step + 1.0], step=step, bins=2)
    run.log({{"loss": 1.0}}, step=step)
    time.sleep(0.03)
run.image("samples/first", b"\\x89PNG not really", step=7)
"""


def test_s004_18_histograms_and_pictures_of_a_job_are_in_its_record(tmp_path: Path) -> None:
    library = pytest.importorskip("expman", reason="expman-rs is not installed")
    script = tmp_path / "train.py"
    script.write_text(SHOW)
    with farm(tmp_path / "farm", "first_workers_s=0") as here:
        here.start_worker("w1")
        with here.client() as client:
            here.until_ready(client)
            job = client.run("train.py", files=[script], name="digits")
            folder = folder_of(here, str(job.id))
            until(lambda: len(steps_of(folder)) > 10, what="some are recorded")
            until(lambda: recorder_of(here)).kill()  # The next one goes on where it was.
            assert until_closed(folder) == "FINISHED"
        run = f"/api/v1/runs/{job.id}"
        told = get(here, f"{run}/histograms?tag=weights&limit=3")
        (listed,) = get(here, run)["artifacts"]
        token = (here.home / "token").read_text().strip()
        url = f"http://127.0.0.1:{here.port}{run}/artifacts/content?path={listed['path']}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            picture = answer.read()

    rows = library.read_histograms(str(folder.path))
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert {row["tag"] for row in rows} == {"weights"}
    assert json.loads(rows[4]["edges"]) == [4.0, 4.5, 5.0]
    assert steps_of(folder) == list(range(STEPS)), "a histogram is no row of metrics"
    assert (told["there_are"], [each["step"] for each in told["histograms"]]) == (
        STEPS,
        [97, 98, 99],
    )
    name = "artifacts/media/samples_first-00000007.png"
    assert (listed["path"], listed["step"], picture) == (name, 7, b"\x89PNG not really")
