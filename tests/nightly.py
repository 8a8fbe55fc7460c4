"""A night of faults (``python -m tests.nightly``, ``make nightly``), and a table of what was done.

Real-process faults, the simulation's seeds and the planted bugs run side by side; the first failure
of any makes the night a failure, but all run to their end. What was really injected is written to
`nightly.json`; ``python -m tests.nightly --publish`` puts it into docs/guarantees.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "nightly.json"
DOCUMENT = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- nightly: begin -->", "<!-- nightly: end -->"
SEEDS = 50_000
SEEDS_MIN = 500
FAULT_PROCESSES = 4
"""Tests of real processes wait most of the time."""


@dataclass
class Part:
    """One of the processes that make the night."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    began: float
    took_s: float = 0.0

    def end(self) -> int:
        status = self.popen.wait()
        self.took_s = time.monotonic() - self.began
        verdict = "passed" if status == 0 else f"FAILED (status {status}), see {self.log}"
        print(f"{self.name}: {verdict} after {self.took_s:.0f} s", flush=True)
        return status


def main() -> int:
    """Run a night, or publish one; 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly", description=__doc__)
    parser.add_argument("--scale", type=float, help="share of a night's counts; default all")
    parser.add_argument("--logs", type=Path, default=ROOT / ".nightly", help="folder of logs")
    parser.add_argument("--publish", action="store_true", help="put the last night into the docs")
    asked = parser.parse_args()
    if asked.publish:
        publish(json.loads(REPORT.read_text()))
        return 0
    scale = asked.scale or float(os.environ.get("LINESHAFT_NIGHTLY_SCALE") or 1.0)
    report = run(scale, asked.logs)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    return 0 if report["failed"] == [] else 1


def run(scale: float, logs: Path) -> dict[str, object]:
    """Run all parts at once; returns what was done."""
    logs.mkdir(parents=True, exist_ok=True)
    counts = logs / "counts.jsonl"
    counts.unlink(missing_ok=True)
    environ = os.environ | {
        "LINESHAFT_NIGHTLY": "1",
        "LINESHAFT_NIGHTLY_SCALE": str(scale),
        "LINESHAFT_FAULT_COUNTS": str(counts),
    }
    seeds = max(SEEDS_MIN, round(SEEDS * scale))
    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    began = time.monotonic()

    def start(name: str, *command: str) -> Part:
        log = logs / f"{name}.log"
        with log.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, env=environ, stdout=file, stderr=file
            )
        return Part(name, popen, log, time.monotonic())

    faults = ["pytest", "-q", "-p", "no:cacheprovider", "--durations=40", "tests/faults"]
    # Loops of one file would run one after the other: each test goes where there is room.
    faults += ["-n", str(FAULT_PROCESSES), "--dist", "worksteal"]
    parts = [
        start("faults", *faults),
        start("seeds", "tests.simulation", "0", str(seeds), "--nice", "10"),
    ]
    statuses = [part.end() for part in parts]
    parts.append(start("mutants", "pytest", "-q", "tests/simulation", "-k", "planted"))
    statuses.append(parts[-1].end())
    done = [json.loads(line) for line in counts.read_text().splitlines()] if counts.exists() else []
    for name, what in (("seeds", "storm of the simulated shop"), ("mutants", "planted bug")):
        part = next(part for part in parts if part.name == name)
        last = part.log.read_text().strip().splitlines()[-1]
        count = seeds if name == "seeds" else planted_in(last)
        done.append({"fault": "F0" if name == "seeds" else "F32", "what": what, "count": count,
                     "seen": last.strip("= ")})  # fmt: skip
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit,
        "machine": f"{os.cpu_count()} cores, {round(psutil.virtual_memory().total / 2**30)} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}",
        "scale": scale,
        "took_s": round(time.monotonic() - began),
        "failed": [p.name for p, status in zip(parts, statuses, strict=True) if status],
        "done": sorted(done, key=lambda row: (int(row["fault"][1:]), row["what"])),
    }


def planted_in(summary: str) -> int:
    words = summary.strip("= ").split()
    return int(words[0]) if words and words[0].isdigit() else 0


def git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, check=False, text=True
    )
    return answer.stdout.strip()


def table(report: dict[str, object]) -> str:
    """The night in Markdown."""
    failed = report["failed"]
    assert isinstance(failed, list)
    verdict = "all passed" if not failed else f"FAILED: {', '.join(map(str, failed))}"
    lines = [
        f"{report['at']}, commit `{report['commit']}`, {report['machine']}; share of a night's "
        f"counts: {report['scale']}; {round(float(str(report['took_s'])) / 60)} minutes; "
        f"{verdict}.",
        "",
        "| | Injected | Times | Seen |",
        "|---|---|---|---|",
    ]
    done = report["done"]
    assert isinstance(done, list)
    lines += [
        f"| {row['fault']} | {row['what']} | {row['count']:,} | {row['seen']} |" for row in done
    ]
    return "\n".join(lines)


def publish(report: dict[str, object]) -> None:
    """Put the table between the marks in the document."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(report)}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
