"""About a run: where and of what, on the terminal and in `docs/performance.md`."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import psutil

from benchmarks.environments import CannotInstallError, Environments
from benchmarks.harness import ROOT, Row
from benchmarks.systems import SYSTEMS
from benchmarks.table import Results, aligned, flatness, floor_lines, markdown, reason_lines, table

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN = "<!-- measured: begin (python -m benchmarks --update-docs) -->"
END = "<!-- measured: end -->"
BUSY_LOAD = 1.0


class NoMarkersError(Exception):
    """The document has no place for the tables."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has no lines {BEGIN!r} and {END!r}")


def about(environments: Environments, systems: list[str], rounds: int) -> Row:
    """What a reader must know to judge the figures."""
    versions: dict[str, str] = {}
    for name in systems:
        try:
            versions[name] = environments.version(SYSTEMS[name])
        except CannotInstallError:
            versions[name] = ""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": _machine(),
        "load": round(os.getloadavg()[0], 2),
        "rounds": rounds,
        "versions": versions,
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (
        " and changes" if changed else ""
    )


def _machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    return (
        f"{os.cpu_count()} cores of {model}, {memory_gib:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def for_terminal(results: Results) -> str:
    """Everything, aligned."""
    parts = [_headline(results), aligned(table(results))]
    if flat := flatness(results):
        parts.append(f"cost per task among 100,000 : among 1,000 = {flat}")
    if floors := floor_lines(results):
        parts.append(aligned(floors))
    if reasons := reason_lines(results):
        parts.append("\n".join(["not measured:", *reasons]))
    return "\n\n".join(parts)


def update_document(results: Results, path: Path = DOCUMENT) -> None:
    """Put the tables between the markers of the document.

    Raises:
        NoMarkersError: It has none.
    """
    text = path.read_text()
    made, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{_for_document(results)}\n\n{END}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise NoMarkersError(path)
    path.write_text(made)


def _for_document(results: Results) -> str:
    parts = [_headline(results), markdown(table(results))]
    if flat := flatness(results):
        parts.append(f"Cost per task among 100,000, against one among 1,000: {flat}.")
    if floors := floor_lines(results):
        parts.append(markdown(floors))
    notes = [f"- {name}: {_note(results, name)}" for name in results.systems]
    parts.append("\n".join(notes))
    if reasons := reason_lines(results):
        parts.append("\n".join(["Not measured:", "", *(f"- {line}" for line in reasons)]))
    return "\n\n".join(parts)


def _note(results: Results, name: str) -> str:
    version = results.about.get("versions", {}).get(name, "")
    kind = SYSTEMS[name]
    package = f"`{kind.requirements[0]}` {version}" if kind.requirements else ""
    return "; ".join(part for part in (package, kind.note) if part)


def _headline(results: Results) -> str:
    about = results.about
    if not about:
        return "Measured, where and when is not known."
    text = (
        f"Measured {about['date']}, commit {about['commit']}, {about['machine']}; "
        f"medians of {about['rounds']} interleaved rounds."
    )
    if about["load"] > BUSY_LOAD:
        text += (
            f" **The machine was busy with other work** (load {about['load']:g} at the start): "
            "trust ratios within a line, and only large ones."
        )
    return text
