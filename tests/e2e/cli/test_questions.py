"""Commands that ask: every one has JSON, and lines for people."""

import subprocess

import pytest
from tests.e2e.cli.shell import LINESHAFT, Shell
from tests.e2e.farm import Farm


@pytest.fixture
def job_id(shell: Shell) -> str:
    shell.write("quick.py", "def main(): print('quick'); return 1")
    found: str = shell.run("run", "quick.py:main", "--json", "--name", "quick one").document[
        "job_id"
    ]
    return found


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["jobs"], list),
        (["job", "JOB"], dict),
        (["why", "JOB"], dict),
        (["story", "JOB"], list),
        (["workers"], list),
        (["top"], dict),
        (["config", "show"], dict),
        (["doctor"], dict),
        (["version"], dict),
        (["result", "JOB"], dict),
        (["cancel", "JOB"], list),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else None,
)
def test_json_is_one_value(
    shell: Shell, job_id: str, command: list[str], kind: type[object]
) -> None:
    arguments = [job_id if each == "JOB" else each for each in command]

    done = shell.run(*arguments, "--json")

    assert (done.code, done.err) == (0, "")
    assert isinstance(done.document, kind)


def test_a_job_is_listed_with_where_it_ran(shell: Shell, job_id: str) -> None:
    header, first, *_ = shell.run("jobs").out.splitlines()

    assert header.split()[:4] == ["JOB", "NAME", "STATUS", "WORKER"]
    assert first.startswith(job_id)
    assert "quick one  succeeded  w" in first
    (listed, *_) = shell.run("jobs", "--status", "succeeded", "-n", "1", "--json").document
    assert listed["job_id"] == job_id


def test_the_story_of_a_job_goes_from_its_submission_to_its_end(shell: Shell, job_id: str) -> None:
    lines = shell.run("story", job_id).out.splitlines()

    assert [line.split("  ", 1)[1].split()[0] for line in lines] == [
        "submitted",
        "attempt",
        "succeeded",
    ]


def test_why_names_the_nearest_worker_and_what_it_lacks(shell: Shell) -> None:
    shell.write("quick.py", "")
    waiting = shell.run("submit", "quick.py", "--memory", "900TiB", "--queue-timeout", "60")
    job_id = waiting.out.strip()

    done = shell.run("why", job_id)

    assert done.code == 0
    assert "no connected worker could ever run it" in done.out
    assert "the job asks for 9.22e+05" in done.out
    assert "  - worker w1: it has " in done.out
    assert shell.run("cancel", job_id).code == 0


def test_workers_are_shown_on_a_narrow_terminal_without_wrapping(shell: Shell) -> None:
    terminal = shell.on_terminal("workers", width=40)

    assert terminal.wait() == 0

    header, first, second = terminal.text.strip().splitlines()
    assert header.split() == ["WORKER", "STATUS", "SLOTS", "CPU"]
    assert (first.split()[0], second.split()[0]) == ("w1", "w2")
    assert max(len(line.rstrip()) for line in (header, first, second)) <= 40


def test_top_looks_as_often_as_asked(shell: Shell) -> None:
    looks = shell.run("top", "--json", "-n", "2", "--every", "0.2").documents

    assert [[each["worker_id"] for each in look["workers"]] for look in looks] == [["w1", "w2"]] * 2


def test_top_ends_with_ctrl_c(shell: Shell) -> None:
    terminal = shell.on_terminal("top", "--every", "0.2")
    terminal.wait_for("w2")

    terminal.press_ctrl_c()

    assert terminal.wait() == 130


def test_a_reader_that_has_seen_enough_is_no_error(shell: Shell, job_id: str) -> None:
    command = " ".join([*LINESHAFT, "story", job_id, "; echo code $? >&2"])
    done = subprocess.run(
        ["bash", "-c", f"({command}) | true"],
        env=shell.environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "BrokenPipe" not in done.stderr
    assert done.stderr == "code 0\n"


def test_a_drained_worker_gets_nothing_more(empty_farm: Farm) -> None:
    shell = Shell(empty_farm.folder, empty_farm.environ)
    empty_farm.start_worker("w1", "--slots", "1")
    with empty_farm.client() as client:
        empty_farm.until_ready(client)

    drained = shell.run("drain", "w1", "--json")

    assert (drained.code, drained.document["draining"]) == (0, True)
    (worker,) = shell.run("workers", "--json").document
    assert worker["status"] == "draining"
    assert shell.run("drain", "w1", "--stop").code == 0
    assert empty_farm.workers["w1"].popen.wait(30) == 0


def test_the_doctor_finds_a_secret_that_others_can_read(shell: Shell, pair: Farm) -> None:
    token = pair.home / "token"
    token.chmod(0o644)
    try:
        done = shell.run("doctor")
    finally:
        token.chmod(0o600)

    assert done.code == 1
    assert f"chmod 600 {token}" in done.out
    assert shell.run("doctor").code == 0
