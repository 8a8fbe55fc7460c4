"""Measures how long after a call of the run API a watching client has it; prints one JSON line.

Usage: python -m benchmarks.live_progress [calls]   (20 ms apart; default 500)

A coordinator, a worker and the client on this machine, so that one clock counts.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.farm import farm

from lineshaft.job_events import Progress

BETWEEN_S = 0.02


def train(count: int, between_s: float) -> None:
    """Tell progress, again and again."""
    from lineshaft import run  # noqa: PLC0415 - this function travels

    for step in range(count):
        run.progress(step, count)
        time.sleep(between_s)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    late_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-live-") as name, farm(Path(name)) as made:
        made.start_worker("w1", "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            job = client.job(client.submit(train, count, BETWEEN_S).id)
            late_s = [time.time() - e.told.at for e in job.events() if isinstance(e, Progress)]
    late_s.sort()
    print(
        json.dumps(
            {
                "what": f"progress until a watching client has it, {len(late_s)} calls",
                "p50_ms": round(1000 * late_s[len(late_s) // 2], 1),
                "p99_ms": round(1000 * late_s[len(late_s) * 99 // 100], 1),
                "max_ms": round(1000 * late_s[-1], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
