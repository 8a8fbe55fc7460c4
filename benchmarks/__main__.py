"""Measure Lineshaft beside its peers.

    python -m benchmarks                                     # everything; some 20 minutes
    python -m benchmarks --systems lineshaft,ray --scenarios noop
    python -m benchmarks --update-docs                       # tables into docs/performance.md
    python -m benchmarks --read rows.jsonl --update-docs     # the same from an earlier run

Standard output gets one JSON object a line, standard error progress and, in the end, the tables.
`--scenarios` takes beginnings of names.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmarks.environments import Environments
from benchmarks.floors import floors
from benchmarks.harness import Harness, Row
from benchmarks.processes import adopt_orphans, end_descendants
from benchmarks.report import about, for_terminal, update_document
from benchmarks.scenarios import SCENARIOS
from benchmarks.systems import SYSTEMS
from benchmarks.table import results_of

CACHE = Path.home() / ".cache" / "lineshaft-bench"
ROUNDS = 3
BUDGET_S = 60.0


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--systems", default="", help=f"of {', '.join(SYSTEMS)}")
    flags.add_argument("--scenarios", default="", help=f"of {', '.join(SCENARIOS)}, floors")
    flags.add_argument("--rounds", type=int, default=ROUNDS, help="default %(default)s")
    flags.add_argument(
        "--budget", type=float, default=BUDGET_S, help="seconds; leave out what takes longer"
    )
    flags.add_argument(
        "--cache", type=Path, default=CACHE, help="environments of the peers; default %(default)s"
    )
    flags.add_argument("--update-docs", action="store_true", help="write docs/performance.md")
    flags.add_argument("--read", type=Path, help="measure nothing; take the rows of this file")
    return flags


def main() -> None:
    flags = parser()
    chosen = flags.parse_args()
    if chosen.read is not None:
        rows = [json.loads(line) for line in chosen.read.read_text().splitlines() if line]
    else:
        systems = chosen_of(flags, chosen.systems, SYSTEMS)
        scenarios = chosen_of(flags, chosen.scenarios, [*SCENARIOS, "floors"])
        rows = []
        for row in run(chosen, systems, scenarios):
            print(json.dumps(row), flush=True)
            rows.append(row)
    results = results_of(rows)
    print(f"\n{for_terminal(results)}", file=sys.stderr)
    if chosen.update_docs:
        update_document(results)


def chosen_of(flags: argparse.ArgumentParser, text: str, known: Collection[str]) -> list[str]:
    """Names that begin with one of the words; an exact name means itself alone."""
    words = text.replace(",", " ").split()
    found: list[str] = []
    for word in words:
        matching = [word] if word in known else [name for name in known if name.startswith(word)]
        if not matching:
            flags.error(f"nothing begins with {word!r}; known: {', '.join(known)}")
        found += matching
    return [name for name in known if not words or name in found]


def run(chosen: argparse.Namespace, systems: list[str], scenarios: list[str]) -> Iterator[Row]:
    """Round after round, every system in each."""
    cache: Path = chosen.cache
    cache.mkdir(parents=True, exist_ok=True)
    # Where it is set, whoever was not compiled before would compile all its code at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environments = Environments(cache)
    adopt_orphans()
    yield {"about": about(environments, systems, chosen.rounds)}
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache) as name:
        harness = Harness(environments, Path(name), chosen.budget)
        try:
            for number in range(1, chosen.rounds + 1):
                if "floors" in scenarios:
                    yield {"round": number, "floors": floors(Path(name))}
                wanted = [
                    each
                    for each in scenarios
                    if each != "floors" and (number == 1 or not SCENARIOS[each].is_once)
                ]
                for system in systems if wanted else ():
                    print(f"round {number}: {system}", file=sys.stderr, flush=True)
                    for row in harness.measure(system, wanted):
                        yield {"round": number, **row}
        finally:
            end_descendants()


if __name__ == "__main__":
    main()
