"""`lineshaft demo` and `lineshaft up`: they work, and leave nothing behind."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm, until


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Shell]:
    """A machine with a folder for temporary files that belongs to the test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    shell = Shell(tmp_path, Farm(tmp_path).environ | {"TMPDIR": str(folder)})
    yield shell
    shell.end()
    for process in processes_in(folder):
        process.kill()


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes whose environment names the folder: daemons, runners, and what those started."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            values = process.environ().values()
        except psutil.Error:
            continue
        if any(str(folder) in value for value in values):
            found.append(process)
    return found


def assert_nothing_is_left(machine: Shell) -> None:
    folder = Path(machine.environ["TMPDIR"])
    assert [each.name for each in folder.iterdir()] == []
    until(lambda: processes_in(folder) == [], what="all processes are gone")


def test_the_demo_is_right_and_leaves_nothing(machine: Shell) -> None:
    done = machine.run("demo", "--json")

    assert done.code == 0, done.err
    document = done.document
    assert document["is_right"]
    assert all(check["is_right"] for check in document["checks"])
    assert len(document["jobs"]) == 15
    assert {job["worker_id"] for job in document["jobs"]} == {"worker-1", "worker-2"}
    best = max(job["accuracy"] or 0 for job in document["jobs"])
    assert 0.95 <= best < 1
    assert_nothing_is_left(machine)


# Both signals have one handler: each of them at one moment shows as much as each at both.
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, "Coordinator"), (signal.SIGINT, r"Sweep of settings .*[1-9]/12")],
)
def test_a_demo_that_is_interrupted_leaves_nothing(
    machine: Shell, number: signal.Signals, moment: str
) -> None:
    terminal = machine.on_terminal("demo", width=50)
    terminal.wait_for(moment)

    terminal.process.send_signal(number)

    assert terminal.wait() == 130
    assert "everything is stopped and removed" in " ".join(terminal.text.split())
    assert_nothing_is_left(machine)


def test_a_demo_whose_worker_dies_fails_and_leaves_nothing(machine: Shell) -> None:
    terminal = machine.on_terminal("demo", "--keep")
    terminal.wait_for("export LINESHAFT_HOME")
    folder = Path(machine.environ["TMPDIR"])
    worker = next(
        each for each in processes_in(folder) if "lineshaft_worker" in " ".join(each.cmdline())
    )

    worker.kill()

    assert terminal.wait() == 1
    assert "has ended by itself" in terminal.text
    assert_nothing_is_left(machine)


def test_up_stands_until_ctrl_c_and_keeps_what_it_was_given(machine: Shell) -> None:
    terminal = machine.on_terminal("up", "--port", "0", "--slots", "1")
    terminal.wait_for("1 worker: 0 running, 0 queued")
    machine.write("quick.py", "def main(): return 42")
    done = machine.run("run", "quick.py:main")
    assert (done.code, done.out) == (0, "42\n")

    terminal.press_ctrl_c()

    assert terminal.wait() == 0
    assert_nothing_is_left(machine)
    again = machine.on_terminal("up", "--port", "0")
    again.wait_for("1 succeeded")
    again.press_ctrl_c()
    assert again.wait() == 0


def test_a_second_ctrl_c_stops_what_up_runs(machine: Shell) -> None:
    terminal = machine.on_terminal("up", "--port", "0", "--slots", "1")
    terminal.wait_for("1 worker: 0 running")
    machine.write("endless.py", "import time\nwhile True: time.sleep(1)")
    machine.run("submit", "endless.py")
    terminal.wait_for("1 running")

    terminal.press_ctrl_c()
    terminal.wait_for("Ctrl-C again")
    terminal.press_ctrl_c()

    assert terminal.wait() == 0
    home = Path(machine.environ["LINESHAFT_HOME"])
    until(lambda: processes_in(home) == [], what="the job is gone")
