"""All commands together, and how any of them ends."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lineshaft.cli import (
    access,
    arrays,
    daemons,
    dashboard,
    doctor,
    environments,
    following,
    jobs,
    kept,
    pausing,
    running,
    runs,
    secrets,
    settings,
    workers,
)
from lineshaft.cli.exits import ExitCode, exit_code_of, one_line
from lineshaft.cli.output import Output, give_up_stdout
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.version import __version__

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

_HINTS = {
    "CoordinatorUnreachableError": "start one with 'lineshaft up', or name another with --url",
    "AccessDeniedError": "'lineshaft token create' on the head node makes a token",
}
_SELF_SIGNED = (
    "its certificate is its own: 'lineshaft token create --role client' on the head node makes a "
    "token that names it, and prints how to log in with that"
)


def application() -> typer.Typer:
    """Return the commands."""
    app = typer.Typer(
        name="lineshaft",
        help="Run Python work on your own machines, and trust it.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command()(daemons.demo)
    app.command()(daemons.up)
    app.command(context_settings=_PASS_ON, add_help_option=False)(daemons.coordinator)
    app.command(context_settings=_PASS_ON, add_help_option=False)(daemons.worker)
    app.command()(running.run)
    app.command()(running.submit())
    app.command()(jobs.jobs)
    app.command()(jobs.job)
    app.command()(following.logs)
    app.command()(following.result)
    app.command()(jobs.why)
    app.command()(jobs.story)
    app.command()(jobs.cancel)
    app.command()(arrays.wait)
    app.command()(arrays.retry)
    app.command()(pausing.pause)
    app.command()(pausing.resume)
    app.command()(kept.artifacts)
    app.command()(kept.download)
    app.command()(workers.workers)
    app.command()(workers.drain)
    app.command()(workers.heal)
    app.command()(workers.top)
    app.command()(dashboard.dashboard)
    app.command()(access.login)
    app.add_typer(runs.runs(), name="runs")
    app.add_typer(access.tokens(), name="token")
    app.add_typer(secrets.secrets(), name="secret")
    app.add_typer(environments.environments(), name="env")
    app.command()(doctor.doctor)
    app.add_typer(settings.configuration(), name="config")
    app.command()(settings.version)
    return app


def narrow(app: typer.Typer, name: str) -> None:
    """Leave out all commands but the one of this name, if there is one.

    To make all of them takes longer than most commands do.
    """
    commands = [
        each
        for each in app.registered_commands
        if each.callback is not None and (each.name or each.callback.__name__) == name
    ]
    groups = [each for each in app.registered_groups if each.name == name]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; no expected error leaves a traceback."""
    output = Output()
    app = application()
    if arguments:
        narrow(app, arguments[0])
    try:
        code: object = app(args=list(arguments), prog_name="lineshaft", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        give_up_stdout()
        return ExitCode.OK
    except (KeyboardInterrupt, typer.Abort):
        output.error("interrupted")
        return ExitCode.INTERRUPTED
    except (LineshaftError, OSError) as error:
        text = one_line(error)
        hint = _SELF_SIGNED if "self-signed" in text else _HINTS.get(type(error).__name__)
        output.error(f"{text.rstrip('.')}; {hint}" if hint else text)
        return exit_code_of(error)
    except Exception as error:  # noqa: BLE001 - raised again unless it is about the command line
        _end_of_parsing(error, output)
        return ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.OK


def _end_of_parsing(error: Exception, output: Output) -> None:
    """Tell what is wrong with the command line; anything else is a bug of ours, and is raised."""
    # The class of these errors has moved between versions of typer; its methods have not.
    message, context = getattr(error, "format_message", None), getattr(error, "ctx", None)
    if not callable(message):
        raise error
    text = str(message())
    path: object = getattr(context, "command_path", "lineshaft")
    if type(error).__name__ == "NoArgsIsHelpError":
        output.note(text)
    else:
        output.error(f"{text.rstrip('.')}; see '{path} --help'")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        Output().line(f"lineshaft {__version__}")
        raise typer.Exit


def _root(
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    del is_version  # Its callback has done what there is to do.
