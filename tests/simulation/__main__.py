"""Run seeds: ``python -m tests.simulation SEED_BASE COUNT [--every-step] [--story LINES]``."""

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.run import Report
from tests.simulation.seeds import replay_command, simulate


def main() -> int:
    """Run what the command line asks for; 1 when a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed_base", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--every-step", action="store_true", help="check all indexes always")
    parser.add_argument("--story", type=int, default=40, metavar="LINES")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most", type=int, default=3, help="failures told in full")
    parser.add_argument("--nice", type=int, default=0, help="give way to others by so much")
    asked = parser.parse_args()
    os.nice(asked.nice)
    seeds = range(asked.seed_base, asked.seed_base + asked.count)
    began = time.perf_counter()
    reports = simulate(
        seeds,
        check_every=1 if asked.every_step else 10,
        story=asked.story,
        processes=min(asked.processes, asked.count),
    )
    failed = [report for report in reports if report.error is not None]
    for report in failed[: asked.most]:
        print("\n".join(report.story))
        print(f"seed {report.seed}: {report.error}")
        print(f"replay: {replay_command(report.seed)}\n")
    _summarise(reports, failed, time.perf_counter() - began)
    return 1 if failed else 0


def _summarise(reports: list[Report], failed: list[Report], took_s: float) -> None:
    marks: Counter[str] = Counter()
    for report in reports:
        marks.update(report.marks)
    for name, count in sorted(marks.items()):
        print(f"{count:8d} {name}")
    kinds = Counter((report.error or "")[:90] for report in failed)
    for kind, count in kinds.most_common(15):
        first = next(r.seed for r in failed if (r.error or "")[:90] == kind)
        print(f"{count:4d} x (seed {first}) {kind}")
    steps = sum(report.steps for report in reports)
    virtual_s = sum(report.virtual_s for report in reports)
    print(
        f"{len(reports)} seeds, {len(failed)} failed, {steps} steps, {took_s:.1f} s, "
        f"{virtual_s / took_s:.0f} times real time"
    )


if __name__ == "__main__":
    sys.exit(main())
