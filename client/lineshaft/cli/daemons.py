"""Commands that start daemons: the coordinator, a worker, both, or a whole demo."""

import asyncio
import os
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from lineshaft.cli.exits import ExitCode, MissingExtraError, UsageError
from lineshaft.cli.flags import Json
from lineshaft.cli.output import Output

COORDINATOR_MODULES = ("h11", "starlette", "uvicorn")
WORKER_MODULES = ("psutil", "pynvml")
DEMO_MODULES = ("numpy", "sklearn")


class _Main(Protocol):
    def __call__(self, arguments: list[str]) -> int: ...


def need(what: str, extra: str, modules: tuple[str, ...]) -> None:
    """Make sure that an extra is installed.

    Raises:
        MissingExtraError: It is not.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtraError(what, extra, module)


def demo(
    is_kept: Annotated[
        bool, typer.Option("--keep", help="Leave it running until Ctrl-C, for a look.")
    ] = False,
    is_json: Json = False,
) -> None:
    """Show it all on this machine: a coordinator, two workers, real work and checks."""
    need("lineshaft demo", "demo", COORDINATOR_MODULES + WORKER_MODULES + DEMO_MODULES)
    # Before NumPy is imported, for us and for the workers: small matrices on threads that fight for
    # two cores took ten times as long, and threads may add in another order.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    from lineshaft.demo.show import run_demo  # noqa: PLC0415 - imports scikit-learn

    raise typer.Exit(run_demo(Output(is_json=is_json), keeps=is_kept))


def coordinator(context: typer.Context) -> None:
    """Run the coordinator here; takes the flags of lineshaft-coordinator (see its --help)."""
    raise typer.Exit(_daemon_main("coordinator", context.args, COORDINATOR_MODULES))


def worker(context: typer.Context) -> None:
    """Run a worker here; takes the flags of lineshaft-worker (see its --help)."""
    raise typer.Exit(_daemon_main("worker", context.args, WORKER_MODULES))


def _daemon_main(name: str, arguments: list[str], modules: tuple[str, ...]) -> int:
    need(f"lineshaft {name}", name, modules)
    # By name: the client may not depend on the daemons, which need not be installed.
    module = import_module(f"lineshaft_{name}.__main__")
    main = cast("_Main", module.main)  # as its signature there says
    try:
        return main(arguments)
    except SystemExit as error:  # argparse's way to say that it has said what there was to say
        return error.code if isinstance(error.code, int) else ExitCode.USAGE


def up(
    port: Annotated[int, typer.Option(help="Where the coordinator listens; 0: any.")] = 7433,
    slots: Annotated[int | None, typer.Option(help="Jobs at once; default one a CPU.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the worker; default local.")] = None,
) -> None:
    """Run a coordinator and one worker on this machine until Ctrl-C."""
    need("lineshaft up", "all", COORDINATOR_MODULES + WORKER_MODULES)
    if slots is not None and slots < 1:
        raise UsageError("--slots takes at least 1")
    flags = () if slots is None else ("--slots", str(slots))
    with tempfile.TemporaryDirectory(prefix="lineshaft-up-") as logs:
        code = asyncio.run(_up(Path(logs), port, name or "local", flags))
    raise typer.Exit(code)


async def _up(logs: Path, port: int, name: str, flags: tuple[str, ...]) -> ExitCode:
    from lineshaft.cli.standing import stand  # noqa: PLC0415 - takes long

    return await stand(Output(), logs, port=port, worker_name=name, worker_flags=flags)
