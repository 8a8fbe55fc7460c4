"""The run API and its file: one line per call, never an exception, nothing lost in silence."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineshaft import run
from lineshaft_runtime import spool
from lineshaft_runtime.spool import LINE_BYTES_MAX, JobContext, SpoolRecord, SpoolWriter, parse_line


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The spool of an attempt that this process pretends to execute."""
    path = tmp_path / "spool"
    spool.attach(JobContext(SpoolWriter(str(path)), params={"lr": 0.5}))
    yield path
    spool.attach(JobContext(None))


def records(path: Path) -> list[SpoolRecord]:
    parsed = [parse_line(line) for line in path.read_bytes().splitlines()]
    assert None not in parsed
    return [record for record in parsed if record is not None]


def test_numbers_that_json_does_not_know_survive(path: Path) -> None:
    run.log({"nan": math.nan, "inf": math.inf, "minus": -math.inf}, step=1)

    (record,) = records(path)
    assert record.kind == "metrics"
    metrics = record.body["metrics"]
    assert isinstance(metrics, dict)
    assert math.isnan(metrics["nan"])
    assert (metrics["inf"], metrics["minus"]) == (math.inf, -math.inf)


def test_array_scalars_become_numbers_and_other_things_their_text(path: Path) -> None:
    class Scalar:
        def item(self) -> float:
            return 2.5

    run.log({"loss": Scalar(), "path": Path("a/b")})

    assert records(path)[0].body["metrics"] == {"loss": 2.5, "path": "a/b"}


def test_lines_are_numbered_and_carry_two_clocks(path: Path) -> None:
    run.progress(1)
    run.progress(2, 10, phase="test")

    first, second = records(path)
    assert (first.seq, second.seq) == (1, 2)
    assert second.monotonic >= first.monotonic
    assert second.at > 1.6e9
    assert second.body == {"step": 2, "total": 10, "phase": "test"}


def test_what_cannot_be_written_is_counted_and_told_with_the_next_line(path: Path) -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError

    run.log({"bad": Bad()})
    run.log({"long": "x" * LINE_BYTES_MAX})
    run.progress(1)

    notice, progress = records(path)
    assert notice.kind == "notice"
    assert notice.body["text"] == "2 events could not be written"
    assert (progress.kind, progress.seq) == ("progress", 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_raises_nothing_and_is_told_later(tmp_path: Path) -> None:
    link = tmp_path / "spool"
    link.symlink_to("/dev/full")
    writer = SpoolWriter(str(link))

    writer.write("progress", {"step": 1})
    writer.write("progress", {"step": 2})
    os.close(writer._descriptor)
    writer._descriptor = -1
    link.unlink()
    writer.write("progress", {"step": 3})

    assert [record.kind for record in records(link)] == ["notice", "progress"]
    assert "2 events" in str(records(link)[0].body["text"])


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from lineshaft_runtime.spool import SpoolWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = SpoolWriter(sys.argv[1])
writer.write("progress", {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
writer.write("progress", {"step": 2})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.write("progress", {"step": 3})
"""
    path = tmp_path / "spool"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)

    first, torn, notice, last = map(parse_line, path.read_bytes().splitlines())
    assert torn is None
    assert first is not None
    assert notice is not None
    assert last is not None
    assert (first.body["step"], last.body["step"]) == (1, 3)
    assert notice.body["text"] == "1 events could not be written"


def test_parameters_are_those_of_the_job(path: Path) -> None:
    del path

    assert run.params == {"lr": 0.5}


def test_outside_a_job_everything_works_and_does_nothing(tmp_path: Path) -> None:
    program = """
from lineshaft import run
run.progress(1); run.log({"a": 1}); run.result(1); run.checkpoint("no"); run.artifact("no")
assert not run.should_pause() and run.params == {} and run.input_data() is None
"""
    environment = {key: value for key, value in os.environ.items() if "LINESHAFT" not in key}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_the_run_api_is_light_to_import() -> None:
    program = "import sys; before = set(sys.modules); import lineshaft.run; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    heavy = {"pydantic", "asyncio", "logging", "pathlib", "typing", "dataclasses", "msgpack"}
    assert heavy & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"k":"progress"}',
        b'{"k":"log","n":1,"t":1.0,"m":1.0,"b":{}}',
        b'{"k":[],"n":1,"t":1.0,"m":1.0,"b":{}}',
        b'{"k":"progress","n":1,"t":"now","m":1.0,"b":{}}',
        b'{"k":"progress","n":1,"t":1.0,"m":1.0,"b":[]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_line_of_ours_is_none(line: bytes) -> None:
    assert parse_line(line) is None
