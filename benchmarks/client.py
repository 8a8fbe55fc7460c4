"""The client of one system, run in that system's environment by the harness.

    python -m benchmarks.client SYSTEM WORKERS FOLDER BUDGET_S SCENARIO…

Each line on standard output is a JSON object: `{"begin": …}` before a scenario, then its figures or
why there are none.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from benchmarks import tasks
from benchmarks.processes import adopt_orphans
from benchmarks.scenarios import SCENARIOS, CannotMeasureError, Session
from benchmarks.systems import SYSTEMS


def main() -> None:
    name, worker_count, folder, budget_s, *wanted = sys.argv[1:]
    # Libraries print what they like; the lines of the harness have a channel of their own.
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    adopt_orphans()
    kind = SYSTEMS[name]
    say(lines, begin="start")
    begin = time.perf_counter()
    system = kind.make(Path(folder), int(worker_count))
    imported_s = time.perf_counter() - begin
    session = Session(kind=kind, system=system, budget_s=float(budget_s))
    try:
        begin = time.perf_counter()
        system.start()
        system.gather(system.submit(tasks.noop, [0]))
        session.started_s = time.perf_counter() - begin
        say(lines, ready=True, imported_s=imported_s)
        for scenario in wanted:
            say(lines, begin=scenario)
            say(lines, scenario=scenario, **outcome(session, scenario))
        say(lines, begin="stop")
    finally:
        system.stop()


def outcome(session: Session, name: str) -> dict[str, object]:
    scenario = SCENARIOS[name]
    if scenario.has_values and session.kind.no_values:
        return {"skipped": "its tasks return nothing"}
    if name == "import" and not session.kind.imports:
        return {"skipped": "nothing to import"}
    try:
        return {"figures": scenario.measure(session)}
    except CannotMeasureError as error:
        return {"skipped": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a system raises is a row of the table
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def say(lines: TextIO, **fields: object) -> None:
    lines.write(json.dumps(fields) + "\n")
    lines.flush()


if __name__ == "__main__":
    main()
    # Threads of a library must not keep a measured client alive.
    os._exit(0)
