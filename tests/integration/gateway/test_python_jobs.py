"""Python jobs of seed clients: told of while they run, with their parameters and their numbers."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import (
    Document,
    SeedPeer,
    Town,
    seed_peer,
    until,
)

PHASES = ["environment", "write_files", "execute", "collect_results"]


def job_of(files: Mapping[str, str], entry_point: str, **more: object) -> Document:
    return {
        "type": "AssignPythonJob",
        "job": {
            "job_id": "j", "pipeline_id": "pipe", "investigation_id": "i",
            "files": [{"path": path, "content": text} for path, text in files.items()],
            "requirements": "", "entry_point": entry_point, "input_data": None, "params": None,
            **more,
        },
    }  # fmt: skip


async def told(peer: SeedPeer) -> tuple[list[Document], Document]:
    """All progress of a job, and its result."""
    heard = [await peer.hear()]
    while heard[-1]["type"] == "JobProgress":
        heard.append(await peer.hear())
    assert await peer.is_quiet(), "the result is the last word"
    return heard[:-1], heard[-1]


async def test_a_job_tells_its_phases_then_its_result(peer: SeedPeer) -> None:
    program = "import json\nprint('hi')\nprint(json.dumps({'acc': 0.95}))\nprint('tail')\n"
    await peer.send(job_of({"main.py": program, "pkg/mod.py": "X = 1\n"}, "main.py"))

    progress, result = await told(peer)

    assert [(each["phase"], each["step"], each["total"]) for each in progress] == [
        (phase, step, 4) for step, phase in enumerate(PHASES, 1)
    ]
    assert all(each["metrics"] == {} and each["job_id"] == "j" for each in progress)
    assert list(result) == [
        "type", "worker_id", "job_id", "success", "metrics", "output", "duration_ms",
    ]  # fmt: skip
    assert (result["success"], result["metrics"]) == (True, {"acc": 0.95})
    assert result["output"] == 'hi\n{"acc": 0.95}\ntail\n'


@pytest.mark.parametrize(
    ("entry_point", "program"),
    [
        ("train.py", "from lineshaft import run\nprint([dict(run.params), run.input_data()])"),
        ("train.py:main", "def main(params, input_data): print([params, input_data])"),
        ("train:main", "def main(params, input_data): print([params, input_data])"),
    ],
)
async def test_parameters_and_input_arrive(peer: SeedPeer, entry_point: str, program: str) -> None:
    message = job_of(
        {"train.py": program}, entry_point, params={"lr": 0.5}, input_data={"x": [1, None]}
    )
    await peer.send(message)

    _, result = await told(peer)

    assert result["output"] == "[{'lr': 0.5}, {'x': [1, None]}]\n"


async def test_what_a_job_reports_is_told_while_it_runs(peer: SeedPeer, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    program = f"""
import math, pathlib, time
from lineshaft import run
run.progress(3, 10, phase="train")
run.log({{"loss": 0.5, "bad": math.nan}}, step=3)
while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)
"""
    await peer.send(job_of({"main.py": program}, "main.py"))

    before = [await peer.hear() for _ in range(5)]
    go_on.touch()
    _, result = await told(peer)

    assert [(each["phase"], each["step"], each["total"]) for each in before[3:]] == [
        ("train", 3, 10),
        ("train", 3, 10),
    ]
    assert before[4]["metrics"] == {"loss": 0.5, "bad": None}
    assert result["success"] is True


async def test_numbers_beyond_what_a_float_holds_end_nobody(peer: SeedPeer) -> None:
    program = """
from lineshaft import run
run.progress(10**400, 10**400, phase="train")
run.log({"loss": 10**400}, step=1)
"""
    await peer.send(job_of({"main.py": program}, "main.py"))

    progress, result = await told(peer)

    assert result["success"] is True
    assert [each["step"] for each in progress if each["phase"] == "train"] in ([0], [0, 0])
    await peer.send({"type": "Ping"})
    assert (await peer.hear())["type"] == "Pong", "the coordinator goes on"


async def test_a_document_of_several_lines_counts_whole(peer: SeedPeer) -> None:
    program = "import json\nprint(json.dumps({'a': [1, 2], 'b': {'c': 3}}, indent=1))\nprint('end')"
    await peer.send(job_of({"main.py": program}, "main.py"))

    _, result = await told(peer)

    assert result["metrics"] == {"a": [1, 2], "b": {"c": 3}}


async def test_a_job_that_fails_gives_both_streams_and_its_numbers(peer: SeedPeer) -> None:
    program = "import sys\nprint('{\"a\": 1}')\nsys.stderr.write('oops\\n')\nsys.exit(3)\n"
    await peer.send(job_of({"main.py": program}, "main.py"))

    progress, result = await told(peer)

    assert [each["phase"] for each in progress] == PHASES
    assert (result["success"], result["metrics"]) == (False, {"a": 1})
    assert result["output"] == 'STDERR:\noops\n\nSTDOUT:\n{"a": 1}\n'


@pytest.mark.parametrize(
    ("path", "entry_point", "said"),
    [
        ("../evil.py", "main.py", "'..' are not allowed"),
        ("/tmp/evil.py", "main.py", "absolute names are not allowed"),
        ("a.py", "none.py", "there is no file 'none.py'; the job has a.py"),
    ],
)
async def test_a_job_that_cannot_run_says_why(
    peer: SeedPeer, path: str, entry_point: str, said: str
) -> None:
    await peer.send(job_of({path: "print(1)"}, entry_point))

    _, result = await told(peer)

    assert result["success"] is False
    assert said in str(result["output"])


async def test_captured_jobs_are_answered_in_the_captured_shape(
    peer: SeedPeer, golden: Path
) -> None:
    better = {"entry_point_module_colon_func", "metrics_multiline_json_ignored"}
    shown: set[str] = {"input_and_params_visibility", "missing_entry"}  # Show paths of the worker.

    for line in (golden / "worker-0.5.1-python-jobs.jsonl").read_text().splitlines():
        captured = json.loads(line)
        replies = [json.loads(each) for each in captured["replies"]]
        if captured["label"] in better or replies[0]["type"] != "JobProgress":
            continue
        await peer.send(captured["sent"])
        progress, result = await told(peer)

        for ours, theirs in zip([*progress, result], replies, strict=True):
            constant = {k for k in theirs if k not in ("worker_id", "duration_ms")}
            if captured["label"] in shown:
                constant -= {"output", "metrics"}
            assert {k: ours[k] for k in constant} == {k: theirs[k] for k in constant}
            assert list(ours) == list(theirs)


async def test_a_job_is_cancelled_by_its_id(town: Town, peer: SeedPeer, tmp_path: Path) -> None:
    began = tmp_path / "began"
    program = f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(600)"
    await peer.send(job_of({"main.py": program}, "main.py", job_id="endless"))
    await until(began.exists)

    async with seed_peer(town.url()) as other:
        ack = await other.ask({"type": "CancelPlan", "plan_id": "endless"})
    _, result = await told(peer)

    assert ack["status"] == "cancelled"
    assert result["success"] is False
    assert "cancelled" in str(result["output"])


async def test_a_job_goes_on_when_its_client_leaves(town: Town, tmp_path: Path) -> None:
    began, ended, go_on = tmp_path / "began", tmp_path / "ended", tmp_path / "go on"
    program = f"""
import pathlib, time
pathlib.Path({str(began)!r}).touch()
while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)
pathlib.Path({str(ended)!r}).touch()
"""
    async with seed_peer(town.url()) as peer:
        await peer.send(job_of({"main.py": program}, "main.py", job_id="kept"))
        await until(began.exists)

    go_on.touch()

    def status() -> str | None:
        _, body = town.http("/api/v1/jobs", token=town.local_token)
        job = next(each for each in json.loads(body) if each["name"] == "kept")
        return job["status"] if job["finished_at"] else None

    assert await until(status) == "succeeded"
    assert ended.exists()
