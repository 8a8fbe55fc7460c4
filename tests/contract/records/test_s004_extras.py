"""Seed 004's record beyond its files: a full disk, a dead keeper, where a run came from."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.farm import DEADLINE_S, until

from lineshaft_records import Run
from lineshaft_records.documents import read_info
from lineshaft_records.launches import rank_and_group
from lineshaft_records.layout import RunFolder
from lineshaft_records.provenance import DIFF_BYTES_MAX
from lineshaft_records.reading import RunReader

ROWS = 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return path


def test_s004_04_on_a_full_disk_and_with_a_dead_keeper_rows_are_dropped_in_silence(
    small_disk: Path,
) -> None:
    run = Run("e", "r", base=small_disk, console=False, provenance=False)
    run.log_metrics({"a": 0.0}, step=0)
    assert run.flush(DEADLINE_S)
    run._keeper.kill()
    run._keeper.wait()
    ballast = fill(small_disk)

    for step in range(1, ROWS):
        run.log_metrics({"a": 0.5, "text": "x" * 100}, step=step)
    run.info("nobody can write this down")

    ballast.unlink()
    run.log_metrics({"a": 1.0}, step=ROWS)
    run.close()
    # What came before and after is there; the disk may have had room for some in between.
    steps = RunReader(run.folder).points(["a"])["a"].steps
    assert (steps[0], steps[-1]) == (0, ROWS)
    assert len(steps) < ROWS, "the disk was full"
    assert len(steps) == len(set(steps))
    until(lambda: read_info(run.folder).status == "FINISHED", what="it is closed")
    run._keeper.wait()


def test_the_end_of_a_keeper_that_takes_its_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineshaft_records.run.CLOSE_WAIT_S", 0.05)
    run = Run("e", "r", base=tmp_path, console=False, provenance=False)
    keeper = run._keeper
    keeper.send_signal(signal.SIGSTOP)

    run.close()
    keeper.send_signal(signal.SIGCONT)

    # Nobody asks it: who drops the run would be warned of a process that was left.
    until(lambda: keeper.returncode == 0, what="the keeper's end is noticed")
    assert read_info(run.folder).status == "FINISHED"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder under git, in which the test runs, with one file that was changed since."""
    if shutil.which("git") is None:
        pytest.skip("no git on this machine; install it to see commits in provenance.yaml")
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text("lr = 1\n")
    git = ["git", "-C", str(source), "-c", "user.name=n", "-c", "user.email=e@e"]
    for words in (["init", "-q", "-b", "trunk"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    (source / "train.py").write_text("lr = 2\n")
    monkeypatch.chdir(source)
    return source


def recorded(base: Path, *, diff: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record a run without a name; returns its provenance and what run.yaml says."""
    run = Run("e", base=base, console=False, diff=diff)
    run.close()
    said = yaml.safe_load((run.path / "provenance.yaml").read_text())
    return said, yaml.safe_load((run.path / "run.yaml").read_text())


@pytest.mark.usefixtures("repository")
def test_s004_18_provenance_rank_and_group_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")

    said, info = recorded(tmp_path, diff=False)

    assert len(said["git"].pop("commit")) == 40
    assert said["git"] == {"branch": "trunk", "dirty": True}
    assert said["hostname"] == os.uname().nodename
    assert said["scheduler"] == {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "3"}
    assert said["command"]
    assert (info["name"], info["rank"], info["group"]) == ("job-4711-rank3", 3, "job-4711")
    assert rank_and_group({"RANK": "1", "SLURM_PROCID": "2"}) == (1, None)


@pytest.mark.usefixtures("repository")
def test_s004_18_the_diff_is_what_expman_would_keep(tmp_path: Path) -> None:
    library = pytest.importorskip("expman", reason="expman-rs is not installed")
    with library.Experiment(
        "e",
        "theirs",
        base_dir=str(tmp_path),
        capture_diff=True,
        system_metrics_interval_secs=0,
        redirect_console=False,
    ) as experiment:
        folder = experiment.run_dir
    theirs = library.load_provenance(folder)

    ours, _ = recorded(tmp_path, diff=True)

    assert "-lr = 1\n+lr = 2" in ours["git"]["diff"]
    assert ours["git"] == theirs["git"]
    assert ours.keys() == theirs.keys()


def test_s004_18_a_long_diff_is_cut_and_says_so(repository: Path, tmp_path: Path) -> None:
    (repository / "train.py").write_text("x\n" * DIFF_BYTES_MAX)

    said, _ = recorded(tmp_path, diff=True)

    text = said["git"]["diff"]
    assert len(text) < DIFF_BYTES_MAX + 100
    assert text.startswith("diff --git")
    assert text.endswith("bytes]")


def test_s004_18_a_git_that_hangs_fails_no_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = repository / "git"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(repository), prepend=os.pathsep)
    monkeypatch.setattr("lineshaft_records.provenance.GIT_S", 0.1)

    said, info = recorded(tmp_path, diff=True)

    assert "git" not in said
    assert info["status"] == "FINISHED"


def test_a_run_is_recorded_where_nobody_can_tell_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with Run("e", "r", base=tmp_path, console=False) as run:
        run.log_metrics({"a": 1.0}, step=1)

    until(lambda: read_info(run.folder).status == "FINISHED", what="it is closed")
    assert "[WARN] where it comes from could not be kept: " in run.folder.log.read_text()


def test_whether_files_differ_is_not_told_if_git_took_too_long_to_say(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, real = repository / "git", shutil.which("git")
    program.write_text(f'#!/bin/sh\n[ "$1" = status ] && exec sleep 60\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(repository), prepend=os.pathsep)

    said, _ = recorded(tmp_path, diff=False)

    assert said["git"].keys() == {"commit", "branch"}


def test_s004_18_variables_that_are_no_text_end_no_training(tmp_path: Path) -> None:
    words = {
        b"EXPMAN_PARAM_NAME": b"caf\xe9",
        b"EXPMAN_PARAM_\xffX": b"2",
        b"EXPMAN_TAGS": b"\xe9,b",
    }
    script = (
        "from lineshaft_records import Run\n"
        f"with Run('e', 'r', base={str(tmp_path)!r}, console=False) as run:\n"
        "    run.log_params({'more': '\\udce9'})\n"
        "    run.log_metrics({'loss': 1.0}, step=1)\n"
    )

    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environb, **words}, timeout=60
    )

    folder = RunFolder(tmp_path / "e" / "r")
    until(lambda: not folder.live.exists(), what="the run is closed")
    assert RunReader(folder).config() == {"name": "caf\ufffd", "\ufffdx": 2, "more": "\ufffd"}
    assert read_info(folder).tags == ("\ufffd", "b")
    assert read_info(folder).status == "FINISHED"
    log = folder.log.read_text()
    assert "[WARN] the variable EXPMAN_PARAM_NAME is no UTF-8" in log
    assert log.count("[WARN]") == 3


def test_parameters_of_a_sweep_that_cannot_be_kept_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPMAN_PARAM_LR", "1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lineshaft_records.run.merge_config", full)
    with Run("e", "r", base=tmp_path, console=False, provenance=False) as run:
        pass

    assert "parameters of the sweep could not be kept: [Errno 28]" in run.folder.log.read_text()
