"""How long after `run.log` a point is on the dashboard's screen, and how long a run of a million
rows takes to open there; prints two JSON lines.

Usage: python -m benchmarks.page [points]   (100 ms apart; default 100)

Coordinator, worker and headless Chromium on this machine, so that one clock counts. A point is on
screen in the first animation frame after the chart was given it.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.farm import farm, until
from tests.page.browser import Browser

from lineshaft.job_events import Metrics
from lineshaft_records import Run

BETWEEN_S = 0.1
ROWS = 1_000_000
OPENINGS = 10
WATCH = """
(() => {
  window.seen = [];
  const look = () => {
    const label = document.querySelector("figure")?.getAttribute("aria-label") ?? "";
    const count = Number(/: (\\d+) points/.exec(label)?.[1] ?? 0);
    while (window.seen.length < count) window.seen.push(Date.now() / 1000);
    requestAnimationFrame(look);
  };
  look();
})()
"""

OPEN = """
new Promise((done) => {
  const began = performance.now();
  const look = () => {
    const label = document.querySelector("figure")?.getAttribute("aria-label") ?? "";
    if (label.includes("points")) requestAnimationFrame(() => done(performance.now() - began));
    else requestAnimationFrame(look);
  };
  location.hash = "#/runs/page/million";
  look();
})
"""


def train(count: int, between_s: float) -> None:
    """Tell numbers, again and again."""
    from lineshaft import run  # noqa: PLC0415 - this function travels

    for step in range(count):
        run.log({"loss": 1 / (step + 1)}, step=step)
        time.sleep(between_s)


def measure_openings(page: Browser, base: Path) -> None:
    """Open a long run from the list of runs, again and again; nothing of it is kept between."""
    with Run("page", "million", base=base, system_s=0) as run:
        for step in range(ROWS):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
    opened: list[float] = []
    for _ in range(OPENINGS):
        page.run("location.hash = '#/runs'")
        until(lambda: page.run("document.querySelector('figure') === null") is True)
        opened.append(float(str(page.run(OPEN))))
    opened.sort()
    found = {"p50_ms": round(opened[OPENINGS // 2], 1), "worst_ms": round(opened[-1], 1)}
    print(json.dumps({"what": "a long run opens", "rows": ROWS, **found}))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name:
        folder = Path(name)
        with farm(folder / "farm") as made, made.client() as client, Browser(folder) as page:
            made.start_worker("w1", "--slots", "1")
            made.until_ready(client)
            job = client.job(client.submit(train, count, BETWEEN_S).id)
            token = (made.home / "token").read_text().strip()
            page.open(f"http://127.0.0.1:{made.port}/#token={token}")
            until(lambda: "w1" in page.text())
            page.run(WATCH)
            page.run(f"location.hash = '#/jobs/{job.id}'")
            shown = f"document.querySelector('figure')?.ariaLabel?.includes(': {count} points')"
            until(lambda: page.run(shown), within_s=60 + count * BETWEEN_S)
            seen = page.run("window.seen")
            told = [each.told.at for each in job.events() if isinstance(each, Metrics)]
            measure_openings(page, made.folder / "data" / "runs")
    assert isinstance(seen, list)
    # Those that were told before the chart was there came with its history.
    late = sorted(s - t for s, t in zip(seen[20:], told[20:], strict=False))
    print(
        json.dumps(
            {
                "what": "run.log to screen",
                "points": len(late),
                "p50_ms": round(late[len(late) // 2] * 1000, 1),
                "p99_ms": round(late[int(len(late) * 0.99)] * 1000, 1),
                "worst_ms": round(late[-1] * 1000, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
