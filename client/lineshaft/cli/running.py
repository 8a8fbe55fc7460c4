"""Commands that submit a pipeline job: files, parameters and an entry point."""

import inspect
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from lineshaft.cli.arrays import follow_array, read_array
from lineshaft.cli.asking import ask
from lineshaft.cli.exits import ExitCode, FailedError, UsageError
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Output
from lineshaft.cli.waiting import say_if_it_waits

if TYPE_CHECKING:
    from lineshaft.async_client import AsyncClient
    from lineshaft.job import AsyncJob
    from lineshaft.requirements import Needs

ARGUMENTS_FILE = "lineshaft_arguments.py"

EntryPoint: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="ENTRY", help="train.py, train.py:main or package.module:main."),
]
Rest: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- ARGUMENT...]", help="For the script, as its sys.argv."),
]
Files: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--files", "--file", help="File or folder to send along; repeat for more."),
]
Params: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="VALUE is JSON, or else text."),
]
Requirements: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--requirements",
        "-r",
        metavar="FILE",
        help="Install what a requirements.txt, pyproject.toml or script names; repeat for more.",
    ),
]
Packages: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="PACKAGE", help="Install it, as 'numpy>=2'; repeat for more."),
]
Python: TypeAlias = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Run with this Python, as 3.12.")
]
Cpus: TypeAlias = Annotated[float | None, typer.Option(min=0, help="Processor cores.")]
Memory: TypeAlias = Annotated[str | None, typer.Option(metavar="SIZE", help="As 8GiB.")]
Gpus: TypeAlias = Annotated[int | None, typer.Option(min=0, help="How many.")]
GpuMemory: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="On each GPU, shared with others; else it is the job's own."),
]
Nodes: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Run on this many workers at once, one part on each."),
]
Processes: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1, max=256, help="Run in this many processes on each worker, as torchrun starts them."
    ),
]
Tags: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", help="The worker must have it; repeat for more.")
]
Worker: TypeAlias = Annotated[str | None, typer.Option(help="The only worker it may run on.")]
Name: TypeAlias = Annotated[str | None, typer.Option(help="What to call it.")]
Experiment: TypeAlias = Annotated[
    str | None, typer.Option(help="Where its run record lies; its name, unless you say.")
]
Priority: TypeAlias = Annotated[int, typer.Option(min=-1000, max=1000, help="Higher goes first.")]
Retries: TypeAlias = Annotated[
    int, typer.Option(min=0, max=1000, help="How often it may run again after it failed.")
]
Timeout: TypeAlias = Annotated[float | None, typer.Option(help="Longest run, in seconds.")]
QueueTimeout: TypeAlias = Annotated[
    float | None, typer.Option(help="Longest wait for a worker, in seconds.")
]
PrepareTimeout: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Longest time from being given to a worker until it begins, in seconds."),
]
SilenceTimeout: TypeAlias = Annotated[
    float | None, typer.Option(help="Longest time in which it says nothing, in seconds.")
]
LostAfter: TypeAlias = Annotated[
    float | None,
    typer.Option(help="How long it waits for a worker that vanished, in seconds."),
]
Backoff: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Wait after it failed, in seconds; doubled with each failure."),
]
Detached: TypeAlias = Annotated[
    bool, typer.Option("--detach", "-d", help="Print the job's id and do not wait.")
]
After: TypeAlias = Annotated[
    list[str] | None, typer.Option("--after", metavar="JOB", help="Start when it has succeeded.")
]
ArrayOf: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--array",
        metavar="FILE|N",
        help="Run it once for each object in a JSON list; or N times, with the parameter item.",
    ),
]
AtMost: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Of an array: how many may be under way at a time.")
]
Secrets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME[=VARIABLE]",
        help="Put a secret of 'lineshaft secret set' into the job's environment.",
    ),
]


@dataclass(frozen=True, slots=True)
class Order:
    """A pipeline job as it was asked for."""

    entry_point: str
    files: dict[str, bytes | Path]
    params: dict[str, object]


def run(  # noqa: PLR0913, PLR0917 - each is a flag
    entry: EntryPoint,
    arguments: Rest = None,
    files: Files = None,
    params: Params = None,
    requirements: Requirements = None,
    packages: Packages = None,
    python: Python = None,
    cpus: Cpus = None,
    memory: Memory = None,
    gpus: Gpus = None,
    gpu_memory: GpuMemory = None,
    nodes: Nodes = None,
    processes: Processes = None,
    tags: Tags = None,
    worker: Worker = None,
    name: Name = None,
    experiment: Experiment = None,
    priority: Priority = 0,
    retries: Retries = 0,
    timeout: Timeout = None,
    queue_timeout: QueueTimeout = None,
    prepare_timeout: PrepareTimeout = None,
    silence_timeout: SilenceTimeout = None,
    lost_after: LostAfter = None,
    backoff: Backoff = None,
    after: After = None,
    secrets: Secrets = None,
    array: ArrayOf = None,
    at_most: AtMost = None,
    is_detached: Detached = False,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run a script or function on a worker; show its output and progress, print its result."""
    order = make_order(entry, files or (), params or (), arguments or ())
    wanted = given({"cpus": cpus, "memory": memory, "gpus": gpus, "gpu_memory": gpu_memory})
    options = given({
        "resources": wanted or None, "tags": tags or (), "name": name or entry, "worker": worker,
        "priority": priority, "retries": retries, "timeout": timeout, "backoff": backoff,
        "after": after or (), "secrets": read_secrets(secrets or ()), "python": python,
        "queue_timeout": queue_timeout, "prepare_timeout": prepare_timeout, "nodes": nodes,
        "silence_timeout": silence_timeout, "lost_after": lost_after, "processes": processes,
        "requirements": read_needs(requirements or (), packages or ()), "experiment": experiment,
    })  # fmt: skip
    work = _submitter(order, options, out := Output(is_json=is_json), is_detached=is_detached)
    if array is not None or at_most is not None:
        work = _array_submitter(order, array, at_most, options, out, is_detached)
    raise typer.Exit(ask(url, token, work))


def submit() -> Callable[..., None]:
    """Return the command that is `run --detach`: the same flags, but for that one."""

    def submit(**flags: Any) -> None:
        """Submit a script or function, print the job's id, and do not wait."""
        run(**flags, is_detached=True)

    # typer reads flags off the signature, and two dozen of them are not written down twice.
    whole = inspect.signature(run)
    kept = [each for each in whole.parameters.values() if each.name != "is_detached"]
    submit.__signature__ = whole.replace(parameters=kept)  # type: ignore[attr-defined]  # PEP 362
    submit.__annotations__ = {each.name: each.annotation for each in kept}
    return submit


def given(values: Mapping[str, object]) -> dict[str, object]:
    """Return what was said, without what was left open."""
    return {key: value for key, value in values.items() if value is not None}


def make_order(
    entry: str,
    files: Sequence[Path],
    params: Sequence[str],
    arguments: Sequence[str],
) -> Order:
    """Read the files and parameters of a job.

    Raises:
        UsageError: A file is not there, or a parameter has no name.
    """
    source, _, function = entry.partition(":")
    found = dict(_own_files(source, is_module=not source.endswith(".py")))
    for path in files:
        found |= _named(path)
    read_params: dict[str, object] = dict(read_param(each) for each in params)
    if not arguments:
        return Order(entry, found, read_params)
    if function or not source.endswith(".py"):
        raise UsageError(
            "only a script takes arguments after '--'; pass --param NAME=VALUE to a function"
        )
    found[ARGUMENTS_FILE] = _ARGUMENTS.format(source=source, arguments=[*arguments]).encode()
    return Order(ARGUMENTS_FILE, found, read_params)


def read_needs(files: Sequence[Path], packages: Sequence[str]) -> "Needs | None":
    """Return what is to be installed; None if nothing was said.

    Raises:
        UsageError: A file is not there.
        RequirementsError: A requirement cannot be read.
    """
    if not files and not packages:
        return None
    from lineshaft.requirements import read_requirements  # noqa: PLC0415 - takes long

    needs = read_requirements(packages)
    for path in files:
        if not path.is_file():
            raise UsageError(f"there is no file {path}; -r takes a file, --with takes a package")
        needs = needs.merged(read_requirements(path))
    return needs


def read_param(text: str) -> tuple[str, object]:
    """Return the name and value in `NAME=VALUE`; the value is JSON, or else text.

    Raises:
        UsageError: It has no name.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise UsageError(f"--param {text!r} has no name; write it as --param lr=0.1")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def read_secrets(given: Sequence[str]) -> dict[str, str]:
    """Return variables and the secrets they hold, from `NAME` or `NAME=VARIABLE`."""
    pairs = [each.partition("=") for each in given]
    return {variable or name: name for name, _, variable in pairs}


def _own_files(source: str, *, is_module: bool) -> dict[str, bytes | Path]:
    """Name the file of the entry point, or the package that it is in."""
    if not is_module:
        path = Path(source)
        if not path.is_file():
            raise UsageError(f"there is no file {source}; name the script or function to run")
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(f"{source} is outside of this folder; go to its folder first")
        return {path.as_posix(): path}
    top = source.partition(".")[0]
    if Path(top).is_dir():
        return _named(Path(top))
    if Path(f"{top}.py").is_file():
        return _named(Path(f"{top}.py"))
    return {}  # It may be installed there, or among the other files.


def _named(path: Path) -> dict[str, bytes | Path]:
    """Name a file or folder as the job will; names are relative to the current folder."""
    if not path.exists():
        raise UsageError(f"there is no file {path}; --files takes what is here")
    return {path.name if path.is_absolute() else path.as_posix(): path}


def _submitter(
    order: Order, options: dict[str, object], output: Output, *, is_detached: bool
) -> "Callable[[AsyncClient], Coroutine[Any, Any, ExitCode]]":
    async def submit(client: "AsyncClient") -> ExitCode:
        from lineshaft.cli.following import follow  # noqa: PLC0415 - takes long

        job: AsyncJob[object] = client.options(**options).run(  # type: ignore[arg-type]  # checked there
            order.entry_point,
            files=order.files,
            params=order.params,
        )
        client.shell.spawn(say_if_it_waits(output, client, job))
        if not is_detached:
            return await follow(output, client, job)
        await _accepted(client, job)
        if output.is_json:
            output.document({"job_id": job.id})
        else:
            output.line(job.id)
        return ExitCode.OK

    return submit


def _items(array: str, params: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the parameters of each item; what is said of all comes first."""
    found = read_array(array)
    each = [{"item": n} for n in range(found)] if isinstance(found, int) else found
    return [{**params, **item} for item in each]


def _array_submitter(
    order: Order,
    array_of: str | None,
    at_most: int | None,
    options: dict[str, object],
    output: Output,
    is_detached: bool,
) -> "Callable[[AsyncClient], Coroutine[Any, Any, ExitCode]]":
    if array_of is None:
        raise UsageError("--at-most is about an array; add --array FILE or --array N")
    items = _items(array_of, order.params)

    async def submit(client: "AsyncClient") -> ExitCode:
        array = client.options(**options).array(  # type: ignore[arg-type]  # checked there
            order.entry_point, items, files=order.files, at_most=at_most
        )
        client.shell.spawn(say_if_it_waits(output, client, array[0]))
        if not is_detached:
            return await follow_array(output, client, array)
        await _accepted(client, array[0])
        kept = sum((await array.status()).values())
        if kept < len(array):
            text = f"the coordinator kept only {kept} of {len(array)} items of array {array.id}"
            raise FailedError(f"{text}; 'lineshaft cancel --array {array.id}' ends those")
        if output.is_json:
            output.document({"array_id": array.id, "job_ids": [each.id for each in array]})
        else:
            output.line(array.id)
        return ExitCode.OK

    return submit


async def _accepted(client: "AsyncClient", job: "AsyncJob[object]") -> None:
    """Wait until the coordinator has the job, or has refused it.

    Raises:
        LineshaftError: It was refused.
    """
    async with aclosing(job.events()) as events:
        # The first event tells where the job is; a refusal is raised instead.
        async for _ in events:
            return


_ARGUMENTS = """import runpy, sys
sys.argv[:] = [{source!r}, *{arguments!r}]
runpy.run_path({source!r}, run_name="__main__")
"""
