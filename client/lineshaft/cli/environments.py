"""Commands about the environments of a worker's machine: they look at its own disk."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias, cast

import typer

from lineshaft.cli.exits import FailedError, NotFoundError, UsageError
from lineshaft.cli.flags import Json
from lineshaft.cli.output import Column, Output, duration, size

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

Folder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--environments", metavar="FOLDER", help="The worker's; default HOME/environments."
    ),
]
IndexUrl: TypeAlias = Annotated[str | None, typer.Option(help="As the worker's flag.")]
FindLinks: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="As the worker's flag; repeat for more.")
]
Key: TypeAlias = Annotated[
    str, typer.Argument(metavar="KEY", help="From 'lineshaft env list', or its beginning.")
]


class Entry(Protocol):
    """An environment, as the worker's store lists it."""

    @property
    def key(self) -> str:
        """Names it."""
        ...

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...

    @property
    def python(self) -> str:
        """Its version, as 3.12.1."""
        ...

    @property
    def requirements(self) -> tuple[str, ...]:
        """What was asked for."""
        ...

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        ...

    @property
    def built_at(self) -> float:
        """Seconds since 1970."""
        ...

    @property
    def build_s(self) -> float:
        """How long it took."""
        ...

    @property
    def used_at(self) -> float:
        """Seconds since 1970."""
        ...

    @property
    def is_used(self) -> bool:
        """A process has it now."""
        ...


class Store(Protocol):
    """The worker's environments on this machine."""

    def entries(self) -> list[Entry]:
        """All, the one used last first."""
        ...

    def packages(self, key: str) -> list[tuple[str, str]]:
        """Name and version of what is installed there."""
        ...

    def remove(self, key: str) -> bool:
        """Remove one; False if somebody uses it."""
        ...

    def sweep(self) -> list[str]:
        """Remove what killed builders have left."""
        ...


class Built(Protocol):
    """What building ahead has led to."""

    @property
    def key(self) -> str:
        """Names the environment."""
        ...

    @property
    def is_new(self) -> bool:
        """False if it had been there."""
        ...


def environments() -> typer.Typer:
    """Return the commands."""
    app = typer.Typer(
        help="Environments that workers have built on this machine.", no_args_is_help=True
    )
    app.command("list")(listed)
    app.command()(show)
    app.command()(prune)
    app.command()(prebuild)
    return app


def listed(folder: Folder = None, is_json: Json = False) -> None:
    """List the environments, the one used last first."""
    output = Output(is_json=is_json)
    store = _store(folder)
    entries = store.entries()
    if is_json:
        output.document([_document(each, store) for each in entries])
        return
    columns = [
        Column("KEY"),
        Column("PYTHON"),
        Column("PACKAGES", "right"),
        Column("SIZE", "right"),
        Column("USED", "right"),
        Column("IN USE"),
        Column("ASKED FOR", wide_from=90),
    ]
    output.table(columns, [_row(each, store) for each in entries])
    total = sum(each.size_bytes for each in entries)
    output.note(f"{size(total)} in all; files shared with uv's cache are counted in full")


def show(key: Key, folder: Folder = None, is_json: Json = False) -> None:
    """Show one environment and the packages in it."""
    output = Output(is_json=is_json)
    store = _store(folder)
    entry = _named(store, key)
    if is_json:
        output.document(_document(entry, store))
        return
    asked = ", ".join(entry.requirements) or "nothing"
    used = "now" if entry.is_used else f"{duration(_age(entry))} ago"
    output.line(f"{entry.key}  Python {entry.python}, {size(entry.size_bytes)}, used {used}")
    output.line(f"in {entry.folder}")
    output.line(f"built in {duration(entry.build_s)} for: {asked}")
    for name, version in store.packages(entry.key):
        output.line(f"  {name}=={version}")


def prune(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="These.")] = None,
    takes_all: Annotated[bool, typer.Option("--all", help="All that are not in use.")] = False,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Those not used since, as 12h, 7d or 4w.")
    ] = None,
    folder: Folder = None,
    is_json: Json = False,
) -> None:
    """Remove environments; one that is in use stays, and whoever needs it again builds it again."""
    output = Output(is_json=is_json)
    if bool(keys) + takes_all + (older_than is not None) != 1:
        raise UsageError("say which: --all, --older-than 7d, or KEY from 'lineshaft env list'")
    store = _store(folder)
    if keys:
        chosen = [_named(store, key) for key in keys]
    else:
        age_s = 0.0 if older_than is None else read_age(older_than)
        chosen = [each for each in store.entries() if _age(each) >= age_s]
    gone = [each for each in chosen if store.remove(each.key)]
    kept = [each for each in chosen if each not in gone]
    store.sweep()
    if is_json:
        output.document({"removed": [x.key for x in gone], "in_use": [x.key for x in kept]})
    for each in () if is_json else gone:
        output.line(f"removed {each.key}, {size(each.size_bytes)}")
    if kept and keys:
        raise FailedError(f"{', '.join(each.key for each in kept)} is in use, and stays")
    if kept:
        output.note(f"{len(kept)} in use stay")


def prebuild(
    requirements: Annotated[
        list[Path] | None,
        typer.Option(
            "--requirements", "-r", metavar="FILE", help="As for 'lineshaft run'; repeat for more."
        ),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="As for 'lineshaft run'; repeat for more."),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="VERSION", help="For jobs with this Python, as 3.12.")
    ] = None,
    index_url: IndexUrl = None,
    find_links: FindLinks = None,
    folder: Folder = None,
    is_json: Json = False,
) -> None:
    """Build an environment now, so that no job waits for it; run it as the worker is run."""
    from lineshaft.cli.running import read_needs  # noqa: PLC0415 - takes long

    output = Output(is_json=is_json)

    def tell(phase: str, text: str) -> None:
        output.note(f"{phase}: {text}" if text else phase)

    needs = read_needs(requirements or (), packages or ())
    if needs is None:
        raise UsageError("say what to install: -r requirements.txt, or --with numpy")
    _need_worker()
    # By name: the client may not depend on the worker, which need not be installed.
    build_ahead = cast(
        "Callable[..., Built]", import_module("lineshaft_worker.environments.ahead").build_ahead
    )
    built = build_ahead(
        (folder or _default()).absolute(),
        needs.requirements.text(),
        requires_python=needs.requires_python,
        python=python,
        index_url=index_url,
        find_links=tuple(find_links or ()),
        tell=tell,
    )
    if is_json:
        output.document({"key": built.key, "is_new": built.is_new})
    else:
        output.line(built.key)
        output.note("built" if built.is_new else "it was there")


def read_age(text: str) -> float:
    """Return the seconds in a text such as 90s, 30m, 12h, 7d or 4w.

    Raises:
        UsageError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no age; write it as 12h, 7d or 4w")
    return float(match[1]) * SECONDS[match[2]]


def _row(entry: Entry, store: Store) -> list[str]:
    return [
        entry.key,
        entry.python,
        str(len(store.packages(entry.key))),
        size(entry.size_bytes),
        f"{duration(_age(entry))} ago",
        "yes" if entry.is_used else "no",
        ", ".join(each.split(" --hash")[0] for each in entry.requirements),
    ]


def _document(entry: Entry, store: Store) -> dict[str, object]:
    return {
        "key": entry.key,
        "folder": str(entry.folder),
        "python": entry.python,
        "requirements": [*entry.requirements],
        "packages": dict(store.packages(entry.key)),
        "size_bytes": entry.size_bytes,
        "built_at": entry.built_at,
        "build_s": entry.build_s,
        "used_at": entry.used_at,
        "is_used": entry.is_used,
    }


def _age(entry: Entry) -> float:
    return max(0.0, time.time() - entry.used_at)


def _named(store: Store, key: str) -> Entry:
    entries: Sequence[Entry] = [each for each in store.entries() if each.key.startswith(key)]
    if not key or not entries:
        raise NotFoundError(f"no environment {key!r} is here; 'lineshaft env list' lists them")
    if len(entries) > 1:
        found = ", ".join(each.key for each in entries[:5])
        raise UsageError(f"several environments begin with {key}: {found}")
    return entries[0]


def _store(folder: Path | None) -> Store:
    root = folder or _default()
    if not root.is_dir() or not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"{root} is no folder of environments that you may change; run this on a worker's "
            "machine, as the worker's user, or name its folder with --environments"
        )
    _need_worker()
    # By name: the client may not depend on the worker, which need not be installed.
    module = import_module("lineshaft_worker.environments.store")
    return cast("Store", module.EnvironmentStore(root))  # as its methods there say


def _need_worker() -> None:
    from lineshaft.cli.daemons import WORKER_MODULES, need  # noqa: PLC0415 - a cycle else

    need("lineshaft env", "worker", WORKER_MODULES)


def _default() -> Path:
    from lineshaft_runtime.locating import home_of  # noqa: PLC0415 - takes long

    return home_of(os.environ).expanduser() / "environments"
