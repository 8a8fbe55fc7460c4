"""Pausing from a second terminal, and bringing here what a job left."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm, until

TRAINING = """
import signal
from pathlib import Path
from lineshaft import run

first = 0
if (saved := run.latest_checkpoint()) is not None:
    first = int(Path(saved.path).read_text())
Path("begun").touch()
step = first
while not Path(run.params["gate"]).exists():
    step += 1
    run.progress(step, 1000)
    if run.should_pause():
        Path("step.txt").write_text("7")
        run.checkpoint("step.txt", step=7)
        run.paused()
    signal.sigtimedwait((), 0.02)
run.result(first)
"""
DEAF = "import signal\nwhile True: signal.sigtimedwait((), 0.02)"
BIG_BYTES = 192 << 20
LEAVES = f"""
from pathlib import Path
from lineshaft import run
Path("outputs").mkdir()
with open("outputs/big.bin", "wb") as file:
    for number in range({BIG_BYTES} >> 20):
        file.write(number.to_bytes(8, "big") * (1 << 17))
Path("model").mkdir()
Path("model/weights.txt").write_text("weights")
run.artifact("model")
"""


def submitted(shell: Shell, program: str, *flags: str) -> str:
    shell.write("job.py", program)
    done = shell.run("submit", "job.py", *flags)
    assert done.code == 0, done.err
    return done.out.strip()


def status(shell: Shell, job_id: str) -> str:
    found: dict[str, Any] = shell.run("job", job_id, "--json").document
    return str(found["status"])


def until_status(farm: Farm, job_id: str, wanted: str) -> None:
    """Ask over one connection: as commands, all these questions would be most of what tests do."""
    with farm.client() as client:
        until(lambda: client.job(job_id).status == wanted, what=f"{job_id} is {wanted}")


@pytest.fixture
def gate(shell: Shell) -> Path:
    return shell.folder / "gate"


@pytest.fixture
def training(pair: Farm, shell: Shell, gate: Path) -> str:
    job_id = submitted(shell, TRAINING, "--param", f"gate={gate}")
    until_status(pair, job_id, "running")
    return job_id


@pytest.fixture(scope="module")
def full(pair: Farm, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job that left a large file and a folder."""
    shell = Shell(tmp_path_factory.mktemp("full"), pair.environ)
    shell.write("leaves.py", LEAVES)
    found: dict[str, Any] = shell.run("run", "leaves.py", "--json").document
    return str(found["job_id"])


def test_a_job_is_paused_told_and_resumed(shell: Shell, training: str, gate: Path) -> None:
    paused = shell.run("pause", training)
    why = shell.run("why", training).out
    listed = shell.run("jobs", "--status", "paused", "--json").document
    gate.touch()
    resumed = shell.run("resume", training)
    result = shell.run("result", training)

    assert (paused.code, paused.err) == (0, "")
    assert paused.out == (
        f"job {training} is paused at step 7; 'lineshaft resume {training}' lets it go on\n"
    )
    assert "checkpoint step.txt at step 7" in why
    assert [each["job_id"] for each in listed] == [training]
    assert (resumed.code, resumed.out) == (0, f"job {training} goes on: queued\n")
    assert (result.code, result.out) == (0, "7\n")


LARGE = TRAINING.replace(
    'Path("step.txt").write_text("7")',
    'Path("step.txt").write_text("7" + " " * (96 << 20))',
)


def test_paused_is_said_when_the_checkpoint_is_stored(pair: Farm, shell: Shell, gate: Path) -> None:
    """Its job ends long before so much is hashed, and synced to a disk."""
    job_id = submitted(shell, LARGE, "--param", f"gate={gate}")
    until_status(pair, job_id, "running")

    paused = shell.run("pause", job_id)
    why = shell.run("why", job_id).out
    gate.touch()
    shell.run("resume", job_id)

    assert " is paused at step 7; " in paused.out
    assert "checkpoint step.txt at step 7" in why
    assert shell.run("result", job_id).out == "7\n"


def test_pausing_answers_scripts_with_one_list(shell: Shell, training: str, gate: Path) -> None:
    paused = shell.run("pause", training, "--json")
    gate.touch()
    resumed = shell.run("resume", training, "--json")

    assert paused.document == [{"job_id": training, "status": "paused", "step": "7"}]
    assert resumed.document == [{"job_id": training, "status": "queued"}]
    assert shell.run("result", training).code == 0


def test_who_cannot_pause_says_why(pair: Farm, shell: Shell) -> None:
    deaf = submitted(shell, DEAF)
    until_status(pair, deaf, "running")

    late = shell.run("pause", deaf, "--grace", "0.5")
    frozen = shell.run("pause", deaf, "--freeze")
    otherwise = shell.run("pause", deaf)
    cancelled = shell.run("cancel", deaf)
    ended = shell.run("pause", deaf)
    gone = shell.run("resume", deaf)
    unknown = shell.run("pause", deaf, "nobody")

    assert (late.code, "does it ask run.should_pause()?" in late.err) == (1, True)
    assert (frozen.code, "keeps its slot, memory and GPUs" in frozen.out) == (0, True)
    assert (otherwise.code, otherwise.err.count("\n")) == (1, 1)
    assert f"is frozen; 'lineshaft resume {deaf}' comes first" in otherwise.err
    assert cancelled.code == 0
    for each in (ended, gone):
        assert each.code == 1
        assert each.err == f"lineshaft: job {deaf} has ended already: cancelled\n"
    assert (unknown.code, "nobody" in unknown.err) == (4, True)


def test_a_paused_job_can_be_cancelled(shell: Shell, training: str) -> None:
    assert shell.run("pause", training).code == 0

    assert shell.run("cancel", training).code == 0

    assert status(shell, training) == "cancelled"


def test_who_watches_sees_the_pause_of_another_terminal(
    pair: Farm, shell: Shell, gate: Path
) -> None:
    shell.write("job.py", TRAINING)
    watching = shell.on_terminal("run", "job.py", "--param", f"gate={gate}")
    job_id = until_one_runs(pair)

    assert shell.run("pause", job_id).code == 0
    watching.wait_for("paused")
    gate.touch()
    assert shell.run("resume", job_id).code == 0

    assert watching.wait() == 0
    assert "\n7\n" in watching.text


def until_one_runs(farm: Farm) -> str:
    with farm.client() as client:
        found: Any = until(lambda: client.jobs(status="running"), what="it runs")
    (job,) = found
    return str(job["job_id"])


def test_ctrl_c_while_waiting_for_a_pause_leaves_the_pause(pair: Farm, shell: Shell) -> None:
    deaf = submitted(shell, DEAF)
    until_status(pair, deaf, "running")
    terminal = shell.on_terminal("pause", deaf)
    terminal.wait_for("Ctrl-C stops waiting, not the pause")
    until_status(pair, deaf, "pausing")

    terminal.press_ctrl_c()

    assert terminal.wait() == 130
    assert status(shell, deaf) == "pausing"
    assert shell.run("cancel", deaf).code == 0


def test_what_a_job_left_is_listed_and_brought_here(shell: Shell, full: str) -> None:
    listed = shell.run("artifacts", full, "--json").document
    table = shell.run("artifacts", full).out.splitlines()
    done = shell.run("download", full, "model", "-o", "got", "--json")
    missing = shell.run("download", full, "other")

    assert {each["name"]: each["is_folder"] for each in listed} == {"big.bin": False, "model": True}
    assert table[0].split() == ["KIND", "NAME", "STEP", "ATTEMPT", "SIZE", "SHA256", "PROBLEM"]
    assert any("big.bin" in line and "192 MiB" in line for line in table)
    (brought,) = done.document
    assert brought["path"] == "got/model"
    assert (shell.folder / "got/model/weights.txt").read_text() == "weights"
    assert (missing.code, "has no file 'other'" in missing.err) == (4, True)


def test_a_download_goes_on_after_ctrl_c_and_ends_when_all_is_here(shell: Shell, full: str) -> None:
    (big,) = (e for e in shell.run("artifacts", full, "--json").document if not e["is_folder"])
    terminal = shell.on_terminal("download", full, "-o", "got", width=44)
    terminal.wait_for(r"[1-9]% of 192 MiB")
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert "goes on from there" in " ".join(terminal.text.split())
    (part,) = (shell.folder / "got").glob(".*.part")
    assert 0 < part.stat().st_size < BIG_BYTES
    before = part.stat().st_ino

    again = shell.run("download", full, "-o", "got")
    there = (shell.folder / "got/big.bin").stat()
    third = shell.run("download", full, "-o", "got")

    assert (again.code, again.err) == (0, "")
    assert again.out.split() == ["got/model", "got/big.bin"]
    assert there.st_ino == before, "the part was gone on with"
    found = hashlib.sha256((shell.folder / "got/big.bin").read_bytes()).hexdigest()
    assert found == big["blob"]
    assert not [*(shell.folder / "got").glob(".*")], "nothing else is left"
    assert (third.code, third.out) == (0, again.out), "folders that are here are no obstacle"
    assert (shell.folder / "got/big.bin").stat().st_mtime_ns == there.st_mtime_ns


def test_a_bar_fits_a_narrow_terminal(shell: Shell, full: str) -> None:
    terminal = shell.on_terminal("download", full, "big.bin", "-o", "got", width=32)

    assert terminal.wait() == 0

    shown = [line for each in terminal.text.splitlines() for line in each.split("\r")]
    assert any("100% of 192 MiB" in line for line in shown)
    assert all(len(line) < 32 for line in shown), shown
