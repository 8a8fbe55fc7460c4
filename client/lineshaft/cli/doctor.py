"""`lineshaft doctor`: is this machine fit for what it is to do?"""

import typer

from lineshaft.cli.examining import Finding, examine
from lineshaft.cli.exits import ExitCode
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Output

MARKS = {"ok": "[green]✓[/]", "note": "[yellow]![/]", "broken": "[bold red]✗[/]"}


def doctor(is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """Check this machine: Python, what is installed, the coordinator, files, clock, devices."""
    output = Output(is_json=is_json)
    findings = examine(url, token)
    is_broken = any(each.verdict == "broken" for each in findings)
    if is_json:
        document = [each._asdict() for each in findings]
        output.document({"is_healthy": not is_broken, "checks": document})
    else:
        for each in findings:
            _show(output, each)
    raise typer.Exit(ExitCode.JOB_FAILED if is_broken else ExitCode.OK)


def _show(output: Output, finding: Finding) -> None:
    if not output.out.is_terminal:
        output.line(f"{finding.verdict:<6}  {finding.what}: {finding.text}")
        return
    from rich.markup import escape  # noqa: PLC0415 - only here
    from rich.table import Table  # noqa: PLC0415 - likewise

    # A grid keeps what is wrapped on a narrow terminal beside its mark.
    grid = Table.grid(padding=(0, 1))
    grid.add_row(MARKS[finding.verdict], f"[bold]{finding.what}:[/] {escape(finding.text)}")
    output.out.print(grid)
