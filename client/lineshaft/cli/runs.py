"""Commands about runs: what was recorded, side by side, and in other formats."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import typer

from lineshaft.cli.exits import UsageError
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Column, Output, size
from lineshaft.cli.run_plots import CURVES_MAX, Curve, save_plot, terminal_plot
from lineshaft.cli.run_sources import RunSource, catalog_of, source_of

Dir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="A folder of experiments, instead of a coordinator."),
]
Here: TypeAlias = Annotated[
    Path, typer.Option("--dir", metavar="DIR", help="The folder of experiments.")
]
RunName: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or a job.")]
Metric: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", metavar="NAME", help="Only this metric; again for more."),
]
Plot: TypeAlias = Annotated[
    str | None, typer.Option("--plot", metavar="NAME", help="Draw this metric.")
]
PlotFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Draw into a .html or .png file."),
]
FORMATS = ("csv", "json", "tensorboard")
POINTS = 2000
SHOWN_METRICS = 4


def runs() -> typer.Typer:
    """Return the commands."""
    app = typer.Typer(help="List, compare and export what runs recorded.", no_args_is_help=True)
    app.command("list")(listed)
    app.command()(show)
    app.command()(compare)
    app.command()(export)
    app.command("import")(import_)
    app.command()(clean)
    app.command()(rebuild)
    return app


def listed(
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Only of this experiment.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", "-s", help="RUNNING, FINISHED, FAILED or CRASHED."),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", "-t", help="Only with this label.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    folder: Dir = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List runs, the last begun first."""
    output = Output(is_json=is_json)
    wanted = None if status is None else status.upper()
    with source_of(folder, url, token) as source:
        found = source.runs(experiment=experiment, status=wanted, tag=tag, limit=limit)
    if is_json:
        output.document(found)
        return
    columns = [Column("EXPERIMENT"), Column("RUN"), Column("STATUS"), Column("STARTED")]
    columns += [Column("SECONDS", "right", wide_from=70), Column("LAST", wide_from=90)]
    rows = [
        [
            each["experiment"],
            each["run"],
            each["status"],
            str(each["started_at"])[:19],
            "" if each["duration_s"] is None else f"{each['duration_s']:.1f}",
            _last(each["last"]),
        ]
        for each in found
    ]
    output.table(columns, rows)


def show(
    run: RunName,
    plot: Plot = None,
    file: PlotFile = None,
    folder: Dir = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show a run: how it stands, its parameters and last values; and a curve of it."""
    output = Output(is_json=is_json)
    with source_of(folder, url, token) as source:
        found = source.run(run=run)
        if plot is not None:
            _draw(output, source, [run], plot, file)
            return
    if is_json:
        output.document(found)
        return
    output.line(f"{found['experiment']}/{found['run']}  {found['status']}", style="bold")
    output.line(f"started {found['started_at']}, {found['rows']} rows, {size(found['size_bytes'])}")
    for key, value in found["config"].items():
        output.line(f"  {key} = {value}")
    output.table(
        [Column("METRIC"), Column("LAST", "right")],
        [[name, number(value)] for name, value in found["last"].items()],
    )
    # What to say after --plot; a coordinator before this had none.
    if machine := found.get("system"):
        output.line(f"machine: {', '.join(machine)}")
    for each in found["artifacts"]:
        step = "" if each.get("step") is None else f"  step {each['step']}"
        output.line(f"{each['path']}{step}  {size(each['size_bytes'])}  {each['sha256'][:12]}")


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Which, two or more.")],
    metrics: Metric = None,
    plot: Plot = None,
    file: PlotFile = None,
    folder: Dir = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Set runs side by side: parameters that differ, and each metric's last, lowest, highest."""
    output = Output(is_json=is_json)
    with source_of(folder, url, token) as source:
        if plot is not None:
            _draw(output, source, names, plot, file)
            return
        found = source.compare(runs=names, names=metrics)
    if is_json:
        output.document(found)
        return
    columns = [Column(""), *(Column(each["run"], "right") for each in found["runs"])]
    rows = [["status", *(each["status"] for each in found["runs"])]]
    rows += [
        [key, *("" if value is None else str(value) for value in found["params"][key])]
        for key in found["differing"]
    ]
    for name, cells in found["metrics"].items():
        for what in ("last", "min", "max"):
            values = ["" if cell is None else number(cell[what]) for cell in cells]
            rows.append([f"{name} {what}", *values])
    output.table(columns, rows)


def export(
    run: RunName,
    target: Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")],
    kind: Annotated[
        str, typer.Option("--format", "-f", help=f"One of {', '.join(FORMATS)}.")
    ] = "csv",
    folder: Dir = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write a run's metrics as CSV, JSON or for TensorBoard."""
    output = Output(is_json=is_json)
    if kind not in FORMATS:
        raise UsageError(f"no format {kind!r}; there are: {', '.join(FORMATS)}")
    from lineshaft_records.exporting import write_export  # noqa: PLC0415 - takes long

    with source_of(folder, url, token) as source:
        found = source.metrics(run=run, names=None, max_points=None)
    count = write_export(found["metrics"], kind, target)
    if is_json:
        output.document({"path": str(target), "points": count})
    else:
        output.line(f"{target}: {count} points")


def import_(
    source: Annotated[Path, typer.Argument(metavar="TB_DIR", help="Folder of TensorBoard.")],
    folder: Here = Path("experiments"),
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Default: name of the folder.")
    ] = None,
    is_json: Json = False,
) -> None:
    """Make runs of what was written for TensorBoard: one for each folder with event files."""
    from lineshaft.cli.daemons import need  # noqa: PLC0415 - takes long
    from lineshaft.cli.run_sources import RECORD_MODULES  # noqa: PLC0415 - likewise

    need("lineshaft runs import", "records", RECORD_MODULES)
    from lineshaft_records.importing import import_folder  # noqa: PLC0415 - takes long

    output = Output(is_json=is_json)
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    made = import_folder(source, folder, experiment or source.resolve().name)
    if is_json:
        output.document([{"run": name, "rows": rows} for name, rows in made])
        return
    for name, rows in made:
        output.line(f"{name}: {rows} rows")
    if not made:
        output.note(f"{source} has no event files of TensorBoard")


def clean(
    experiment: Annotated[str, typer.Argument(help="Whose runs.")],
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest stay.")] = 5,
    is_forced: Annotated[bool, typer.Option("--force", help="Really remove them.")] = False,
    folder: Here = Path("experiments"),
    is_json: Json = False,
) -> None:
    """Remove old runs of an experiment; without --force it only says which."""
    output = Output(is_json=is_json)
    with catalog_of(folder) as catalog:
        found = catalog.runs(experiment=experiment, limit=1_000_000)
        ended = [each for each in found if each["status"] != "RUNNING"]
        old = ended[keep:]
        paths = [catalog.folder(f"{experiment}/{each['run']}").path for each in old]
    for path in paths:
        if is_forced:
            shutil.rmtree(path)
        if not is_json:
            output.line(f"{'removed' if is_forced else 'would remove'} {path}")
    if is_json:
        output.document({"removed": is_forced, "runs": [each["run"] for each in old]})
    elif old and not is_forced:
        output.note("nothing was removed; --force does it")
    elif not old:
        output.note(_nothing_to_clean(folder, experiment, keep, found, ended))


def _nothing_to_clean(
    folder: Path, experiment: str, keep: int, found: Sequence[object], ended: Sequence[object]
) -> str:
    if not found:
        return f"nothing to remove: {folder} has no runs of {experiment}"
    running = f", {len(found) - len(ended)} more are running" if len(found) > len(ended) else ""
    text = f"nothing to remove: {experiment} has {len(ended)} ended runs{running}"
    return f"{text}; the newest {keep} stay (--keep)"


def rebuild(folder: Here = Path("experiments"), is_json: Json = False) -> None:
    """Make the index of a folder again from its files, and end runs whose writer is gone."""
    output = Output(is_json=is_json)
    with catalog_of(folder) as catalog:
        from lineshaft_records.keeper import end_abandoned  # noqa: PLC0415 - takes long

        ended = end_abandoned(folder)
        count = catalog.rebuild()
    if is_json:
        output.document({"runs": count, "ended": ended})
        return
    for name in ended:
        output.line(f"{name} has crashed")
    output.line(f"{folder}: {count} runs")


def number(value: object) -> str:
    """Return a value of a metric, short."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _last(values: dict[str, object]) -> str:
    shown = [f"{name}={number(value)}" for name, value in values.items()]
    more = f" +{len(shown) - SHOWN_METRICS}" if len(shown) > SHOWN_METRICS else ""
    return " ".join(shown[:SHOWN_METRICS]) + more


def _draw(
    output: Output, source: RunSource, names: list[str], metric: str, file: Path | None
) -> None:
    if len(names) > CURVES_MAX:
        raise UsageError(f"at most {CURVES_MAX} runs can be told apart in one plot")
    curves: list[Curve] = []
    for run in names:
        found = source.metrics(run=run, names=[metric], max_points=POINTS)["metrics"]
        if metric in found:
            curves.append(Curve.of(run, cast("dict[str, Any]", found[metric])))
    if not any(curve.points for curve in curves):
        raise UsageError(f"there are no numbers of {metric!r} to draw")
    if file is not None:
        save_plot(file, metric, curves)
        output.line(str(file))
        return
    for line in terminal_plot(metric, curves, width=min(output.out.width, 100)):
        output.command(line)
