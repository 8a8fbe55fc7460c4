"""Jobs become run records, whatever is killed while they run."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.farm import Farm, farm, until

from lineshaft import Client
from lineshaft_records.documents import read_info, read_yaml
from lineshaft_records.layout import RunFolder
from lineshaft_records.reading import RunReader

STEPS = 300
TRAIN = """
import os, time
from lineshaft import run
for step in range({steps}):
    run.log({{"loss": 1.0 / (step + 1), "odd": float("nan")}}, step=step)
    if step == 100:
        print("at 100", flush=True)
    time.sleep({nap})
{end}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Farm]:
    with farm(tmp_path / "farm") as made:
        made.start_worker("w1", "--slots", "4")
        yield made


def submitted(client: Client, folder: Path, *, end: str = "", nap: float = 0.0, **how: Any) -> str:
    script = folder / "train.py"
    script.write_text(TRAIN.format(steps=STEPS, nap=nap, end=end))
    job = client.run("train.py", files=[script], **({"name": "digits"} | how))
    return str(job.id)


def folder_of(here: Farm, job_id: str, experiment: str = "digits") -> RunFolder:
    return RunFolder(here.folder / "data" / "runs" / experiment / job_id)


def steps_of(folder: RunFolder) -> list[int | None]:
    points = RunReader(folder).points(["loss"], attempts="all")
    return points["loss"].steps if points else []


def get(here: Farm, path: str) -> Any:
    token = (here.home / "token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{here.port}{path}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def until_closed(folder: RunFolder) -> str:
    until(
        lambda: folder.info.exists() and not folder.live.exists(),
        what=f"{folder.path} is closed",
        within_s=60.0,
    )
    return read_info(folder).status


def recorder_of(here: Farm) -> psutil.Process | None:
    assert here.coordinator is not None
    for child in psutil.Process(here.coordinator.pid).children():
        # One that has just ended has no command line.
        with suppress(psutil.NoSuchProcess):
            if "lineshaft_coordinator.recorder" in child.cmdline():
                return child
    return None


def test_a_job_leaves_a_record_and_http_tells_it(here: Farm, tmp_path: Path) -> None:
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path)
        folder = folder_of(here, job_id)

        assert until_closed(folder) == "FINISHED"
    assert steps_of(folder) == list(range(STEPS))
    assert "at 100" in folder.console.read_text()
    (listed,) = get(here, "/api/v1/runs")
    assert (listed["run"], listed["experiment"], listed["status"]) == (job_id, "digits", "FINISHED")
    assert listed["last"] == {"loss": 1.0 / STEPS, "odd": "nan"}
    told = get(here, f"/api/v1/runs/{job_id}/metrics?names=loss&max_points=10&since_step=99")
    curve = told["metrics"]["loss"]
    # A curve that only falls has two of each four points at the ends of pieces.
    assert (curve["steps"][0], curve["steps"][-1], curve["label"]) == (100, 299, "8 of 200")
    assert get(here, f"/api/v1/compare?runs={job_id}")["metrics"]["loss"][0]["min"] == 1.0 / STEPS
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(here, "/api/v1/runs/nobody")


def test_s004_16_the_seeds_routes_tell_experiments_runs_and_curves(
    here: Farm, tmp_path: Path
) -> None:
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path)
        until_closed(folder_of(here, job_id))
    run = f"/api/experiments/digits/runs/{job_id}"

    (experiment,) = get(here, "/api/experiments")
    assert (experiment["id"], experiment["runs_count"]) == ("digits", 1)
    (listed,) = get(here, "/api/experiments/digits/runs?metrics=loss")
    assert (listed["id"], list(listed["vectors"])) == (job_id, ["loss"])
    assert [row["step"] for row in get(here, f"{run}/metrics?since_step=297")] == [298, 299]
    assert get(here, f"{run}/metadata")["status"] == "FINISHED"
    assert get(here, f"{run}/config") == {}
    own = {each["path"]: each["is_default"] for each in get(here, f"{run}/artifacts")}
    assert own == {"console.log": True, "vectors.parquet": True, "run.yaml": True}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(here, f"{run}/artifacts/content?path=../run.yaml")
    for path in (
        "/api/experiments",
        run + "/metrics",
        run + "/config",
        "/api/v1/runs",
        "/api/stats",
    ):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{here.port}{path}", timeout=30)
    stats = get(here, "/api/stats")
    assert (stats["total_runs"], stats["active_runs"]) == (1, 0)
    assert get(here, "/api/config")["live_mode"] is True


def test_s004_10_a_jobs_parameters_and_experiment_are_in_its_record(
    here: Farm, tmp_path: Path
) -> None:
    params = {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.999]}, "resume": None}
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path, params=params, experiment="warm up")
        folder = folder_of(here, job_id, "warm up")

        assert until_closed(folder) == "FINISHED"
    assert read_yaml(folder.config) == params
    assert get(here, f"/api/v1/runs/{job_id}")["config"] == params
    (listed,) = get(here, "/api/v1/runs?experiment=warm+up")
    assert (listed["run"], listed["params"]) == (job_id, params)


def test_a_function_that_tells_numbers_is_a_run_and_one_that_does_not_is_none(
    here: Farm, tmp_path: Path
) -> None:
    def silent() -> int:
        print("nothing to see")
        return 1

    def telling() -> int:
        from lineshaft import run

        run.log({"loss": 0.5}, step=1)
        return 2

    with here.client() as client:
        here.until_ready(client)
        quiet = client.submit(silent)
        loud = client.submit(telling)
        assert (quiet.result(), loud.result()) == (1, 2)

        until(lambda: [*(here.folder / "data" / "runs").glob(f"*/{loud.id}/metrics.parquet")])
    assert not [*(here.folder / "data" / "runs").glob(f"*/{quiet.id}")]


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("raise ValueError('odd loss')", "FAILED", "odd loss"),
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", "CRASHED", "SIGKILL"),
    ],
)
def test_s004_13_a_jobs_ending_is_its_runs_ending(
    here: Farm, tmp_path: Path, end: str, status: str, said: str
) -> None:
    with here.client() as client:
        here.until_ready(client)
        folder = folder_of(here, submitted(client, tmp_path, end=end))

        assert until_closed(folder) == status
    assert f"[ERROR] run {status}" in folder.log.read_text()
    assert said in folder.log.read_text()
    assert len(steps_of(folder)) == STEPS


def test_kills_of_recorder_and_coordinator_lose_and_double_nothing(
    here: Farm, tmp_path: Path
) -> None:
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path, nap=0.03)
        folder = folder_of(here, job_id)

        for enough in (20, 60):
            until(lambda enough=enough: len(steps_of(folder)) > enough, what=f"{enough} rows")  # type: ignore[misc]
            recorder = until(lambda: recorder_of(here))
            recorder.send_signal(signal.SIGKILL)
        until(lambda: len(steps_of(folder)) > 100, what="it goes on")
        assert here.coordinator is not None
        here.coordinator.kill()
        here.start_coordinator()

        assert until_closed(folder) == "FINISHED"
    assert steps_of(folder) == list(range(STEPS))
    assert folder.console.read_text().count("at 100") == 1


def put(here: Farm, path: str, said: object) -> Any:
    token = (here.home / "token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{here.port}{path}",
        data=json.dumps(said).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="PATCH",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def streamed(here: Farm, path: str) -> list[str]:
    """What an event stream says until it ends."""
    token = (here.home / "token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{here.port}{path}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.decode().rstrip("\n") for line in answer]
    assert "event: end" in lines
    assert "event: gap" not in lines
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def test_s004_16_new_rows_and_lines_are_streamed_until_the_run_ends(
    here: Farm, tmp_path: Path
) -> None:
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path, nap=0.05)
        folder = folder_of(here, job_id)
        until(lambda: len(steps_of(folder)) > 5, what="some rows")

        *told, _ = streamed(here, f"/api/run/digits/{job_id}/stream/vectors")
        said = streamed(here, f"/api/experiments/digits/runs/{job_id}/log/stream?file=console.log")

    arrays = [json.loads(each) for each in told]
    rows = [row for array in arrays for row in array]
    assert 5 < len(arrays[0]) < STEPS - 50, "what there was, while it went on"
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert {row["odd"] for row in rows} == {None}
    assert rows[-1]["loss"] == 1.0 / STEPS
    assert len(arrays) > 1, "bit by bit"
    assert said.count("at 100") == 1


def test_s004_16_name_description_and_tags_are_changed_over_http(
    here: Farm, tmp_path: Path
) -> None:
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path)
        folder = folder_of(here, job_id)
        until_closed(folder)
    path = f"/api/experiments/digits/runs/{job_id}/metadata"

    told = put(here, path, {"description": "a good one", "tags": ["kept"]})

    assert (told["description"], told["tags"], told["status"]) == (
        "a good one",
        ["kept"],
        "FINISHED",
    )
    assert read_info(folder).tags == ("kept",)
    assert [each["run"] for each in get(here, "/api/v1/runs?tag=kept")] == [job_id]
    with pytest.raises(urllib.error.HTTPError, match="400"):
        put(here, path, {"status": "FAILED"})


def test_s004_16_of_a_parquet_file_the_first_hundred_rows_are_shown(
    here: Farm, tmp_path: Path
) -> None:
    with here.client() as client:
        here.until_ready(client)
        end = "import pyarrow as pa, pyarrow.parquet as pq\n"
        end += "pq.write_table(pa.table({'n': range(250)}), 'some.parquet')\n"
        end += "run.artifact('some.parquet')\n"
        job_id = submitted(client, tmp_path, end=end)
        until_closed(folder_of(here, job_id))
    run = f"/api/experiments/digits/runs/{job_id}/artifacts"
    ((path, size),) = [
        (each["path"], each["size"]) for each in get(here, run) if not each["is_default"]
    ]

    shown = get(here, f"{run}/content?path={path}&preview=true")

    assert size > 0
    assert (shown["columns"], shown["total_rows"]) == (["n"], 250)
    assert [row["n"] for row in shown["rows"]] == list(range(100))
    assert get(here, f"{run}/content?path={path}") == {"type": "parquet", "data": shown["rows"]}


def test_s004_16_an_experiment_is_described_over_http(here: Farm, tmp_path: Path) -> None:
    with here.client() as client:
        here.until_ready(client)
        until_closed(folder_of(here, submitted(client, tmp_path)))
    path = "/api/experiments/digits/metadata"
    nothing = {"display_name": None, "description": None, "tags": [], "project": None}
    assert get(here, path) == nothing

    told = put(here, path, {"display_name": "Digits, again", "tags": ["kept"]})

    assert told == nothing | {"display_name": "Digits, again", "tags": ["kept"]}
    assert put(here, path, {"project": "vision"})["tags"] == ["kept"], "what is not named stays"
    (listed,) = get(here, "/api/experiments")
    assert (listed["display_name"], listed["project"]) == ("Digits, again", "vision")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        put(here, path, {"runs_count": 5})
    for name in ("nobody", "..", ".recorder.json"):
        with pytest.raises(urllib.error.HTTPError, match=r"40[45]"):
            put(here, f"/api/experiments/{name}/metadata", {"tags": []})


def test_s004_17_a_table_of_a_job_that_runs_is_looked_at(here: Farm, tmp_path: Path) -> None:
    end = "open('t.csv', 'w').write('a,b\\n1,=2+3\\n')\nrun.artifact('t.csv')\n"
    end += "open('n.bin', 'w').write('none')\nrun.artifact('n.bin')\n"
    end += "while not run.should_pause(): time.sleep(0.02)\n"
    with here.client() as client:
        here.until_ready(client)
        job_id = submitted(client, tmp_path, end=end)
        files = f"/api/v1/jobs/{job_id}/files"
        until(lambda: sum("blob" in each for each in get(here, files)) == 2)
        table, other = get(here, files)

        shown = get(here, f"{files}/{table['file_id']}/preview")

        assert shown["rows"] == [{"a": "1", "b": "=2+3"}]
        for wrong, status in ((other["file_id"], "400"), ("9.9", "404")):
            with pytest.raises(urllib.error.HTTPError, match=status):
                get(here, f"{files}/{wrong}/preview")
        client.job(job_id).cancel()
