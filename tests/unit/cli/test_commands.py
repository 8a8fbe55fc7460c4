"""The commands as a whole: help, wrong use, what they import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.unit.cli.documented import documented_commands

from lineshaft.cli.app import application, narrow, run
from lineshaft.cli.daemons import need
from lineshaft.cli.exits import MissingExtraError
from lineshaft.cli.settings import effective
from lineshaft_protocol.version import __version__


def command_names() -> set[str]:
    found: set[str] = set()
    group = typer.main.get_command(application())
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name} if inner is None else {f"{name} {each}" for each in inner}
    return found


def test_every_command_is_documented() -> None:
    assert command_names() - documented_commands() == set()


@pytest.mark.parametrize("name", sorted(command_names() - {"coordinator", "worker"}))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split(), "--help"]) == 0

    assert f"Usage: lineshaft {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["jobs", "submit", "token"])
def test_a_command_is_made_without_the_others(name: str) -> None:
    app = application()

    narrow(app, name)

    group = typer.main.get_command(app)
    assert [*group.commands] == [name]  # type: ignore[attr-defined]


def test_what_names_no_command_is_looked_for_among_all_of_them() -> None:
    app = application()

    narrow(app, "job_s")

    assert len(app.registered_commands) > 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "No such command"),
        (["jobs", "--bogus"], "No such option"),
        (["why"], "Missing argument"),
        (["jobs", "--limit", "0"], "Invalid value"),
        (["jobs", "--status", "lost"], "no status 'lost'; there are: live, waiting"),
        (["token", "create", "--role", "king"], "no role 'king'"),
        (["run", "train.py", "--gpus", "many"], "Invalid value"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2

    err = capsys.readouterr().err
    assert said in err
    assert (err.startswith("lineshaft: "), err.count("\n")) == (True, 1)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2

    assert "Commands:" in capsys.readouterr().err


def test_help_imports_neither_client_nor_protocol_messages() -> None:
    program = (
        "import sys; from lineshaft.cli.app import run; run(['--help']);"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    modules = set(found.stderr.decode().split())
    heavy = {
        "pydantic",
        "lineshaft.async_client",
        "lineshaft_protocol.client_messages",
        "numpy",
        "sklearn",
    }
    assert modules & (heavy | {"lineshaft_coordinator", "lineshaft_worker", "msgpack"}) == set()


def test_an_extra_that_is_missing_is_named_with_how_to_install_it() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'lineshaft\[coordinator\]'"):
        need("lineshaft coordinator", "coordinator", ("json", "no_such_module"))


def test_version_is_told_as_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lineshaft"] == __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"lineshaft {__version__}\n"


def test_settings_tell_their_origin_and_hide_the_token(tmp_path: Path) -> None:
    (tmp_path / "login.json").write_text('{"url": "wss://head:7433", "token": "s3cret"}')
    environ = {"LINESHAFT_HOME": str(tmp_path), "LINESHAFT_URL": "other:99", "LINESHAFT_TOKEN": "t"}

    found = {each.name: (each.value, each.origin) for each in effective(None, None, environ)}

    assert found == {
        "home": (str(tmp_path), "LINESHAFT_HOME"),
        "url": ("ws://other:99", "LINESHAFT_URL"),
        "token": ("(hidden)", "LINESHAFT_TOKEN"),
    }


def test_a_flag_goes_before_the_environment() -> None:
    found = {each.name: each for each in effective("a:1", "t", {"LINESHAFT_URL": "other:99"})}

    assert (found["url"].value, found["url"].origin) == ("ws://a:1", "--url")
    assert found["token"].origin == "--token"
