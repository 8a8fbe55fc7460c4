"""Flags that many commands have."""

from typing import Annotated, TypeAlias

import typer

Url: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The coordinator, as host:7433 or wss://host:7433."),
]
Token: TypeAlias = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", help="What opens it.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
JobName: TypeAlias = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.")]
