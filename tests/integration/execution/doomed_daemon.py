"""A daemon to be killed: starts what it is told, then waits. Run as a script.

Arguments: state folder, scenario. Prints a line when everything is under way.
"""

import asyncio
import sys
import time
from pathlib import Path

from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft_worker.execution.leases import LeasePage
from lineshaft_worker.execution.reports import AttemptBegan, AttemptEnded

LEASE_S = 1.5

COUNTING = """
import os, time
from pathlib import Path
from lineshaft import run

go = Path(run.params["go"])
for step in range(100):
    print("line", step, flush=True)
    run.progress(step, 200)
while not go.exists():
    time.sleep(0.005)
for step in range(100, 200):
    print("line", step, flush=True)
    run.progress(step, 200)
run.result(os.getpid())
"""


def wait_for(path: str) -> str:
    """Return once a file exists; user code of the scenarios."""
    while not Path(path).exists():
        time.sleep(0.005)
    return "went on"


async def main(state_folder: Path, scenario: str, go: str) -> None:
    bench = ExecutionBench(state_folder)
    await bench.execution.open()
    match scenario:
        case "pipeline":
            key = bench.run({"job.py": COUNTING}, "job.py", params={"go": go})
            await until(lambda: "line 99" in bench.text(key))
        case "function":
            key = bench.call(wait_for, go, lane=3)
            behind = bench.call(wait_for, go, lane=3)
            await until(lambda: bench.of(AttemptBegan, key))
            assert not bench.of(AttemptBegan, behind)
        case "unsettled":
            for size in (3, 100_000):
                key = bench.call(bytes, size)
                await bench.ended(key)
            key = bench.call(wait_for, go)
            await until(lambda: bench.of(AttemptBegan, key))
        case "settled":
            key = bench.call(bytes, 3)
            await bench.ended(key)
            bench.execution.settled(key)
            # The acknowledgement goes with the next order.
            await bench.ended(bench.call(bytes, 4))
        case "leased":
            page = LeasePage.open(state_folder)
            page.renew(time.monotonic(), 600.0)
            order = {"lease_s": LEASE_S, "lease_grace_s": 0.3}
            key = bench.run({"job.py": COUNTING}, "job.py", params={"go": go}, **order)
            await until(lambda: "line 99" in bench.text(key))
            # A heartbeat was answered just before the daemon dies.
            page.renew(time.monotonic(), 600.0)
        case _:
            raise ValueError(scenario)
    print("under way", *[report.key.job_id for report in bench.of(AttemptEnded)], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
