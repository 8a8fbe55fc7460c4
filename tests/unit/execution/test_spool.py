"""The run API and its file: one line per call, never an exception, nothing lost in silence."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineshaft import run
from lineshaft_protocol.codec import FROM_WORKER
from lineshaft_protocol.worker_messages import JobEvents
from lineshaft_runtime import spool
from lineshaft_runtime.spool import LINE_BYTES_MAX, JobContext, SpoolWriter
from lineshaft_runtime.spool_lines import SpoolRecord, parse_line
from lineshaft_worker.daemon.translation import events_of
from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.execution.reports import AttemptEvents


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
    many = {f"metric {number}": "x" * 100 for number in range(spool.ITEMS_MAX)}

    run.log(many)
    run.log(many)
    run.progress(1)

    notice, progress = records(path)
    assert notice.kind == "notice"
    assert notice.body["text"] == "2 events could not be written"
    assert (progress.kind, progress.seq) == ("progress", 3)


class Sore:
    """Raises whatever it is asked for."""

    def __float__(self) -> float:
        raise ValueError("float")

    def __str__(self) -> str:
        raise ValueError("str")

    def item(self) -> float:
        raise ArithmeticError("item")


class Column:
    """An array of several numbers, as numpy and torch have them."""

    def item(self) -> float:
        raise ValueError("only one-element arrays can be converted")

    def tolist(self) -> list[float]:
        return [1.5, 2.5]


def endless() -> dict[str, object]:
    inner: dict[str, object] = {}
    inner["again"] = inner
    return inner


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Sore(), "(cannot be told: ArithmeticError)"),
        (10**400, 10**400),
        (10**100_000, "(an integer too large to tell)"),
        ("x" * 10_000_000, "x" * spool.TEXT_CHARACTERS_MAX + "…"),
        (b"\xff", "b'\\xff'"),
        (Column(), [1.5, 2.5]),
        ([Column()] * 2, [[1.5, 2.5]] * 2),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({Sore: 1}, {f"<class '{__name__}.Sore'>": 1}),
        ("\ud800", r"\ud800"),
        ("a\nb\0\u2028", "a\nb\0\u2028"),
        (list(range(100_000)), list(range(spool.ITEMS_MAX))),
        (2 + 1j, "(2+1j)"),
        (True, True),
        (None, None),
    ],
    ids=lambda value: repr(type(value)),
)
def test_a_strange_value_is_told_as_well_as_can_be_and_the_others_beside_it(
    path: Path, value: object, told: object
) -> None:
    run.log({"strange": value, "loss": 0.5}, step=3)

    (record,) = records(path)
    assert record.body == {"metrics": {"strange": told, "loss": 0.5}, "step": 3}


def test_what_contains_itself_is_cut(path: Path) -> None:
    run.log({"loop": endless(), "loss": 0.5})

    (record,) = records(path)
    assert record.body["metrics"]["loss"] == 0.5  # type: ignore[index]  # as logged
    assert "(nested too deeply)" in str(record.body)


def test_all_arguments_may_be_wrong(path: Path) -> None:
    run.log(Sore())  # type: ignore[arg-type]
    run.log(None, step=Sore())  # type: ignore[arg-type]
    run.log({Sore(): 1})  # type: ignore[dict-item]
    run.progress(Sore(), Sore(), Sore())  # type: ignore[arg-type]
    run.progress("three", 10**5000)  # type: ignore[arg-type]

    assert len(records(path)) == 5


def test_a_forked_child_and_threads_write_whole_lines(path: Path) -> None:
    def many() -> None:
        for step in range(200):
            run.log({"loss": 0.5, "text": "x" * 500}, step=step)

    run.progress(0)
    child = os.fork()
    if not child:
        many()
        os._exit(0)
    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.waitpid(child, 0)

    assert len(records(path)) == 1 + 5 * 200


def test_a_file_of_the_users_that_took_the_number_of_the_spool_is_left_alone(
    tmp_path: Path,
) -> None:
    writer = SpoolWriter(str(tmp_path / "spool"))
    writer.write("progress", {"step": 1})
    number = writer._descriptor
    other = os.open(tmp_path / "model.pt", os.O_WRONLY | os.O_CREAT)
    os.dup2(other, number)
    os.close(other)

    writer.write("progress", {"step": 2})
    os.close(number)
    os.close(writer._descriptor)
    writer.write("progress", {"step": 3})

    assert (tmp_path / "model.pt").read_bytes() == b""
    assert [record.body["step"] for record in records(tmp_path / "spool")] == [1, 2, 3]
    os.close(writer._descriptor)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_raises_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    writer = SpoolWriter(str(tmp_path / "spool"))

    writer.write("progress", {"step": 1})

    tmp_path.chmod(0o700)
    writer.write("progress", {"step": 2})
    assert [record.kind for record in records(tmp_path / "spool")] == ["notice", "progress"]


def test_a_spool_whose_folder_is_gone_raises_nothing(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path / "gone" / "spool"))

    writer.write("progress", {"step": 1})

    assert not (tmp_path / "gone").exists()


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
    program = "import sys; sys.path = sys.argv[1:]; import lineshaft.run; print(*sys.modules)"
    done = subprocess.run(
        # Without site, or what it finds installed is imported too.
        [sys.executable, "-S", "-c", program, *sys.path],
        capture_output=True,
        text=True,
        check=True,
    )

    heavy = {"pydantic", "asyncio", "logging", "pathlib", "typing", "dataclasses", "msgpack"}
    heavy |= {"json", "re", "enum", "collections"}
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


def nested(depth: int) -> dict[str, object]:
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"file": os.fsdecode(b"caf\xe9.txt")}, {"file": r"caf\udce9.txt"}),
        ({os.fsdecode(b"caf\xe9"): 1}, {r"caf\udce9": 1}),
        ({"smile": "\U0001f600"}, {"smile": "\U0001f600"}),
    ],
)
def test_half_a_character_in_what_a_job_says_becomes_something_that_a_message_can_carry(
    path: Path, metrics: dict[str, object], told: dict[str, object]
) -> None:
    run.log(metrics)

    assert sent_and_received(path) == [{"metrics": told, "step": None}]


def test_what_is_nested_deeper_than_others_read_is_cut_off(path: Path) -> None:
    run.log({"deep": nested(300)})

    (body,) = sent_and_received(path)
    assert "nested too deeply" in str(body)


def sent_and_received(path: Path) -> list[dict[str, object]]:
    """What the coordinator reads of the lines of a spool."""
    said = [(record.seq, record.at, "metrics", record.body) for record in records(path)]
    spoke = AttemptEvents(AttemptKey("job", 1), tuple(said))  # type: ignore[arg-type]  # the kind
    (message,) = FROM_WORKER.decode(FROM_WORKER.encode(JobEvents(events=events_of(spoke))))
    assert isinstance(message, JobEvents)
    return [dict(event.body) for event in message.events]


def test_a_line_longer_than_ours_are_is_none() -> None:
    line = b'{"k":"metrics","n":1,"t":1.0,"m":1.0,"b":{"a":"%s"}}'

    assert parse_line(line % (b"x" * (LINE_BYTES_MAX - len(line)))) is not None
    assert parse_line(line % (b"x" * LINE_BYTES_MAX)) is None
