"""Histograms and pictures that a job tells are in the record of its run."""

import json
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.farm import farm, until
from tests.e2e.test_run_records import folder_of, get, recorder_of, steps_of, until_closed

from lineshaft_coordinator.data.blob_files import blob_path
from lineshaft_coordinator.recorder.job_files import JobFiles
from lineshaft_records.layout import RunFolder
from lineshaft_records.reading import RunReader

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
    name = "media/samples_first-00000007.png"
    assert (listed["path"], listed["step"], picture) == (name, 7, b"\x89PNG not really")
    assert (folder.path / name).read_bytes() == picture
    (shown,) = library.read_media(str(folder.path))
    assert {key: shown[key] for key in ("tag", "step", "file", "bytes")} == {
        "tag": "samples/first", "step": 7, "file": name, "bytes": len(picture),
    }  # fmt: skip
    origin = library.load_provenance(str(folder.path))
    assert (origin["command"], origin["hostname"]) == ("digits", "w1")
    assert origin["scheduler"] == {"LINESHAFT_JOB_ID": str(job.id)}


def test_pictures_of_one_name_are_all_kept_and_listed_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "data" / "runs" / "e" / "r")
    folder.path.mkdir(parents=True)
    for letter in "ab":
        blob = blob_path(tmp_path / "data" / "blobs", letter * 64)
        blob.parent.mkdir(parents=True)
        blob.write_text(letter)
    kept = {"kind": "artifact", "name": "media/i.png", "size_bytes": 1, "attempt": 1, "step": 1}

    def noted(sizes: dict[str, int], letters: str) -> dict[str, int]:
        files = JobFiles(folder, tmp_path / "data", sizes)
        for letter in letters:
            files.note({**kept, "blob": letter * 64, "file_id": f"1.{letter}"}, "i")
        return files.sizes

    noted({}, "ab")  # Whoever did this was killed before he could say so.
    sizes = noted({}, "abc")
    files = JobFiles(folder, tmp_path / "data", sizes)
    files.note({**kept, "name": "media/../../up", "blob": "a" * 64}, "i")
    files.note({**kept, "name": "media/other.png", "blob": "a" * 64}, None)

    listed = RunReader(folder).artifacts()
    assert [each["path"] for each in listed] == [
        # What is not on the disk, and what is no picture, is with the coordinator alone.
        "artifacts/media/i.png", "artifacts/media/../../up", "artifacts/media/other.png",
        "media/i.png", "media/i-2.png",
    ]  # fmt: skip
    texts = {path.name: path.read_text() for path in (folder.path / "media").iterdir()}
    assert texts == {"i.png": "a", "i-2.png": "b"}


def test_of_checkpoints_of_one_name_each_is_had_by_its_id(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from lineshaft import run\nfor step in (1, 2):\n"
        "    open('model', 'w').write(str(step))\n    run.checkpoint('model', step=step)\n"
    )
    with farm(tmp_path / "farm", "first_workers_s=0") as here:
        here.start_worker("w1")
        with here.client() as client:
            here.until_ready(client)
            job = client.run("train.py", files=[script], name="digits")
            assert until_closed(folder_of(here, str(job.id))) == "FINISHED"
        run = f"/api/v1/runs/{job.id}"
        listed = get(here, run)["artifacts"]
        content = f"{run}/artifacts/content?path=checkpoints/model"
        found = [get(here, f"{content}&file_id={each['file_id']}") for each in listed]

        assert [each["path"] for each in listed] == ["checkpoints/model"] * 2
        assert found == [1, 2]
        assert get(here, content) == 2


ODD = r"""
from lineshaft_runtime.spool import current
tell = current().spool.write
for at, odd in enumerate([
    {"tag": "\ud800", "step": 10**30, "edges": [0, 1], "counts": [1]},
    {"tag": ["t"], "step": [1], "edges": [[0], {}], "counts": ["a"]},
    {"tag": "t", "edges": ["a", None], "counts": [float("inf")]},
    {"tag": "t", "edges": [0, 1], "counts": [10**300]},
    {"edges": [0, 1], "counts": 1}, [], 7, None,
]):
    tell("metrics", {"metrics": {}, "step": at, "histogram": odd})
tell("metrics", {"metrics": {"\ud800": "\udfff", "a": [1]}, "step": 10**40})
tell("metrics", {"metrics": [1], "step": "x"})
tell("metrics", {"metrics": {"": 10**300, "x\ny/\0": -0.0}, "step": 1e308})
tell("artifact", {"path": 5, "name": ["a"], "step": {}})
tell("checkpoint", {"path": "\ud800", "step": "\ud800"})
tell("notice", {"code": [1], "text": {"a": "\ud800"}})
tell("metrics", {"metrics": {"last": 1.0}, "step": 1})
"""


def test_what_a_job_tells_that_is_odd_ends_no_record(tmp_path: Path) -> None:
    script = tmp_path / "odd.py"
    script.write_text(ODD)
    with farm(tmp_path / "farm", "first_workers_s=0") as here:
        here.start_worker("w1")
        with here.client() as client:
            here.until_ready(client)
            job = client.run("odd.py", files=[script], name="digits")
            folder = folder_of(here, str(job.id))
            keeper = until(lambda: recorder_of(here))
            assert until_closed(folder) == "FINISHED"
            assert recorder_of(here).pid == keeper.pid
            told = get(here, f"/api/v1/runs/{job.id}")
            shown = get(here, f"/api/v1/runs/{job.id}/histograms")
    assert told["last"]["last"] == 1.0
    assert shown["there_are"] >= 1


def test_a_record_that_cannot_be_gone_on_with_ends_no_other(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = tmp_path / "train.py"
    script.write_text(
        "import pathlib, time\nfrom lineshaft import run\nrun.log({'loss': 1.0}, step=0)\n"
        "while not pathlib.Path(run.params.get('gate', '/')).exists():\n    time.sleep(0.02)\n"
    )
    with farm(tmp_path / "farm", "first_workers_s=0") as here:
        here.start_worker("w1", "--slots", "2")
        with here.client() as client:
            here.until_ready(client)
            odd = client.run("train.py", files=[script], name="digits", params={"gate": str(gate)})
            folder = folder_of(here, str(odd.id))
            until(lambda: steps_of(folder) == [0], what="it is recorded")
            stray = folder.live / "metrics-odd.arrow"  # As an editor or a sync leaves a copy.
            stray.touch()
            until(lambda: recorder_of(here)).kill()

            other = client.run("train.py", files=[script], name="digits")

            assert until_closed(folder_of(here, str(other.id))) == "FINISHED"
            stray.unlink()
            gate.touch()
            assert until_closed(folder) == "FINISHED"
