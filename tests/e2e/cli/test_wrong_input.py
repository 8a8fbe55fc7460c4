"""What goes wrong is told in one line with what to do next, and has its exit code."""

import socket
from pathlib import Path

import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["job", "nobody-1"], 4, "no job nobody-1 is known"),
        (["why", "nobody-1"], 4, "no job nobody-1 is known"),
        (["story", "nobody-1"], 4, "no job nobody-1 is known"),
        (["logs", "nobody-1"], 4, "no job nobody-1 is known"),
        (["logs", "-f", "nobody-1"], 4, "no job nobody-1 is known"),
        (["result", "nobody-1"], 4, "no job nobody-1 is known"),
        (["cancel", "nobody-1"], 4, "no job nobody-1 is known"),
        (["job", "../etc"], 4, "is no id of a job"),
        (["drain", "nobody"], 4, "no worker nobody is connected"),
        (["run", "nothere.py"], 2, "there is no file nothere.py"),
        (["run", "here.py", "--memory", "many"], 2, "'many' is no"),
        (["run", "here.py", "--files", "nothere"], 2, "there is no file nothere"),
        (["run", "here.py", "--param", "lr"], 2, "has no name"),
        (["run", "here.py", "--after", "nobody-1"], 4, "nobody-1"),
        (["jobs", "--token", "wrong"], 3, "token"),
        (["jobs", "--url", "http://"], 2, "names no coordinator"),
        (["login", "127.0.0.1:1", "--token", "t"], 3, "no coordinator at ws://127.0.0.1:1"),
        (["token", "list"], 2, "no data folder of a coordinator"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else None,
)
def test_wrong_input_is_one_line_and_an_exit_code(
    shell: Shell, command: list[str], code: int, said: str
) -> None:
    shell.write("here.py", "")

    done = shell.run(*command)

    assert said in done.err
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert done.err.startswith("lineshaft: ")


def test_a_machine_without_a_coordinator_is_told_what_to_start(lone_shell: Shell) -> None:
    done = lone_shell.run("jobs")

    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "lineshaft coordinator" in done.err


def test_a_coordinator_that_does_not_answer_is_named(lone_shell: Shell) -> None:
    url = f"ws://127.0.0.1:{free_port()}"

    done = lone_shell.run("jobs", "--url", url, "--token", "t")

    assert (done.code, done.err.count("\n")) == (3, 1)
    assert f"no coordinator at {url}" in done.err


def test_a_damaged_login_is_named(lone_shell: Shell, tmp_path: Path) -> None:
    lone_shell.write("home/login.json", "{")

    done = lone_shell.run("jobs")

    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"login.json or coordinator.json in {tmp_path / 'home'} is damaged" in done.err


def test_a_port_in_use_is_named(shell: Shell, pair: Farm, tmp_path: Path) -> None:
    listen, data = f"127.0.0.1:{pair.port}", str(tmp_path / "data")
    home = {"LINESHAFT_HOME": str(tmp_path / "home")}

    done = shell.run("coordinator", "--listen", listen, "--data", data, environ=home)

    assert done.code == 2
    assert str(pair.port) in done.err.splitlines()[-1]
    assert done.err.splitlines()[-1].startswith("lineshaft-coordinator: ")


def test_up_tells_why_its_coordinator_cannot_start(
    shell: Shell, pair: Farm, tmp_path: Path
) -> None:
    home = {"LINESHAFT_HOME": str(tmp_path / "home")}

    done = shell.run("up", "--port", str(pair.port), environ=home)

    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "lineshaft: the coordinator cannot start: " in done.err
    assert str(pair.port) in done.err


def test_a_second_coordinator_on_the_same_data_is_refused(shell: Shell, pair: Farm) -> None:
    data = str(pair.folder / "data")

    done = shell.run("coordinator", "--listen", "127.0.0.1:0", "--data", data)

    assert done.code == 2
    assert f"{data} is in use by process" in done.err.splitlines()[-1]


def test_a_data_folder_that_cannot_be_written_is_named(shell: Shell) -> None:
    # Nobody may make folders there, root included.
    done = shell.run("coordinator", "--listen", "127.0.0.1:0", "--data", "/proc/lineshaft")

    assert done.code == 2
    assert "/proc/lineshaft" in done.err.splitlines()[-1]


def test_a_data_folder_that_is_a_file_is_named(shell: Shell, tmp_path: Path) -> None:
    path = shell.write("data", "not a folder")

    done = shell.run("coordinator", "--listen", "127.0.0.1:0", "--data", str(path))

    assert done.code == 2
    assert str(path) in done.err.splitlines()[-1]


def test_the_network_is_refused_without_tls(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("coordinator", "--listen", "0.0.0.0:0", "--data", str(tmp_path / "data"))

    assert done.code == 2
    assert "refusing to listen on 0.0.0.0 without TLS" in done.err.splitlines()[-1]


def test_a_flag_that_a_daemon_does_not_know_is_its_own_affair(lone_shell: Shell) -> None:
    done = lone_shell.run("worker", "--bogus")

    assert done.code == 2
    assert "unrecognized arguments: --bogus" in done.err


def test_a_worker_that_is_never_told_where_to_go_says_so(lone_shell: Shell) -> None:
    done = lone_shell.run("worker", "-")

    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "standard input ended without the coordinator's URL" in done.err
