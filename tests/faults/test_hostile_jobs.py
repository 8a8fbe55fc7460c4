"""F10 and F19: jobs that flood, crash or take all memory; a disk that is full."""

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.farm import Farm, farm, select_pause, until
from tests.faults.ledger import LedgerClient
from tests.faults.machines import start_worker
from tests.faults.oracles import check_records, read_journal, read_records, work
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.errors import JobMemoryError, ProcessExitedError
from lineshaft.job_events import Log, Notice
from lineshaft_protocol.jobs import JobSpec

LINES = rounds(200_000, 1_000_000)
FILLS = rounds(1, 10)
MIB = 1024**2

FLOOD = """
import sys
from lineshaft import run

count = run.params["count"]
for start in range(0, count, 1000):
    sys.stdout.write("".join(f"line {n}\\n" for n in range(start, min(start + 1000, count))))
run.result(count)
"""

CAPPED = """
import os, sys
from lineshaft_worker.execution import tail

tail.OUTPUT_BYTES_MAX = int(sys.argv[1])
from lineshaft_worker.execution import pool
defaults = pool.Execution.__init__.__kwdefaults__
defaults["output_bytes_max"] = tail.OUTPUT_BYTES_MAX
from lineshaft_worker.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("hostile") / "farm") as started:
        start_worker(started, "w1", "--slots", "2")
        with started.client() as client:
            started.until_ready(client)
        yield started


@pytest.fixture
def client(made: Farm) -> Iterator[Client]:
    with made.client() as opened:
        yield opened


def test_a_flood_of_lines_arrives_whole_and_hurts_nobody(made: Farm, client: Client) -> None:
    job = client.run("flood.py", files={"flood.py": FLOOD}, params={"count": LINES})
    # Others go on meanwhile, on the other slot.
    assert [client.submit(pow, n, 2).result(30) for n in range(20)] == [n * n for n in range(20)]

    assert job.result(120) == LINES
    text = "".join(event.text for event in job.events() if isinstance(event, Log))

    assert [int(n) for n in re.findall(r"line (\d+)\n", text)] == list(range(LINES))
    tell("F19", "line printed at once", LINES, "all arrived in order, others went on")


def test_output_beyond_the_cap_is_thrown_away_with_one_notice(
    tmp_path: Path, empty_farm: Farm
) -> None:
    made, cap = empty_farm, 1 * MIB
    script = tmp_path / "capped.py"
    script.write_text(CAPPED)
    command = [str(script), str(cap), "--name", "w1", "--slots", "1", "--grace", "3"]
    made.workers["w1"] = made.start("w1", *command)
    with made.client() as client:
        made.until_ready(client)
        job = client.run("flood.py", files={"flood.py": FLOOD}, params={"count": 300_000})

        assert job.result(60) == 300_000
        events = list(job.events())

    text = "".join(event.text for event in events if isinstance(event, Log))
    notices = [event for event in events if isinstance(event, Notice)]
    assert len(text) == cap
    assert [notice.body["code"] for notice in notices] == ["output_capped"]


def segfault() -> None:
    ctypes.string_at(0)


def take_memory(mib: int) -> int:
    held = []
    for _ in range(0, mib, 20):
        held.append(b"x" * (20 * 1024 * 1024))
        signal.sigtimedwait((), 0.05)
    return len(held)


def test_jobs_that_kill_their_process_are_told_how_and_hurt_nobody_else(
    made: Farm, client: Client
) -> None:
    with pytest.raises(ProcessExitedError, match="SIGSEGV"):
        client.submit(segfault).result(30)
    with pytest.raises(ProcessExitedError, match="status 9"):
        client.submit(os._exit, 9).result(30)
    assert made.workers["w1"].popen.poll() is None, "the daemon lives"
    assert client.submit(pow, 2, 5).result(30) == 32


def test_a_job_that_takes_more_memory_than_it_asked_for_ends_as_out_of_memory(
    made: Farm, client: Client
) -> None:
    future = client.submit(take_memory, 2000, resources={"memory": "300MiB"})

    with pytest.raises(JobMemoryError, match="memory"):
        future.result(60)

    story = cast("list[dict[str, Any]]", client.story(future.id))
    outcome = story[-1]["outcome"]
    assert outcome["failure"]["cause"] == "oom"
    assert outcome["peak_memory_bytes"] > 200 * MIB, "the peak is told"
    assert made.workers["w1"].popen.poll() is None
    assert client.submit(pow, 2, 5).result(30) == 32
    tell("F19", "segfault, `os._exit`, out of memory", 3, "each told its cause, the daemon lived")


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room: not much more than what is kept free of blobs."""
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root to be mounted")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use up all room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return ballast


def test_on_a_full_disk_nothing_is_promised_and_all_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    journal, data = tmp_path / "journal", small_disk / "data"
    made = Farm(tmp_path / "farm")
    made.folder.mkdir()
    try:
        start_on(made, data)
        start_worker(made, "w1", "--slots", "2")
        with made.client() as client:
            made.until_ready(client)
            client.submit(work, "warm", str(journal), 0.0).result(30)

            def make(number: int) -> JobSpec:
                job_id = f"job-{number}"
                prepared = client._work.call(work, (job_id, str(journal), 0.01), {})
                return prepared.spec.model_copy(update={"job_id": job_id})

            ledger = LedgerClient(made, make, in_flight_max=20)
            ledger.start()
            for _ in range(FILLS):
                wanted = len(ledger.results) + 30
                until(lambda wanted=wanted: len(ledger.results) >= wanted, what="work goes on")
                ballast = fill(small_disk)
                until(lambda: is_stuck(ledger), what="the disk is full for the journal too")
                assert made.coordinator is not None
                assert made.coordinator.popen.poll() is None, made.coordinator.said()[-2000:]
                ballast.unlink()
            wanted = len(ledger.results) + 30
            until(lambda: len(ledger.results) >= wanted, what="it goes on by itself")
            ledger.finish(60)
            ledger.ask_again()
        assert made.coordinator.terminate() == 0
        stories = read_records(data)
    finally:
        made.close()
    ledger.check()
    check_records(stories)
    assert {job for job in stories if job.startswith("job-")} == set(ledger.results)
    assert len(read_journal(journal)) == len(stories), "each ran once"
    tell("F10", "full disk under the coordinator", FILLS, "nothing promised, went on by itself")


def is_stuck(ledger: LedgerClient) -> bool:
    """Whether nothing was told for a while."""
    before = (len(ledger.results), ledger.accepted.total())
    for _ in range(60):
        select_pause()
    return before == (len(ledger.results), ledger.accepted.total())


def start_on(made: Farm, data: Path) -> None:
    """Start a coordinator whose data lie elsewhere."""
    port_file = made.folder / "port"
    command = ["-m", "lineshaft_coordinator", "--listen", f"127.0.0.1:{made.port}"]
    command += ["--data", str(data), "--port-file", str(port_file)]
    process = made.coordinator = made.start("coordinator", *command)
    until(lambda: port_file.exists() or process.popen.poll() is not None, what="it listens")
    assert process.popen.poll() is None, process.said()
    made.port = int(port_file.read_text())
