"""Many seeds at once."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.run import Report, run


def simulate_for(
    seeds: Sequence[int], *, at_least: int, within_s: float, processes: int
) -> list[Report]:
    """Run seeds until they are used up or the time is over, but some of them in any case."""
    began, reports = time.monotonic(), list[Report]()
    with _pool(processes) as pool:
        for report in pool.map(partial(run, check_every=10, story=40), seeds, chunksize=8):
            reports.append(report)
            if len(reports) >= at_least and time.monotonic() - began > within_s:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return reports


def _pool(processes: int) -> ProcessPoolExecutor:
    # Fresh interpreters: forking one with threads may lock up.
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def simulate(seeds: Sequence[int], *, check_every: int, story: int, processes: int) -> list[Report]:
    """Run seeds, in several processes if asked; the reports are in the order of the seeds."""
    one = partial(run, check_every=check_every, story=story)
    if processes <= 1:
        return [one(seed) for seed in seeds]
    with _pool(processes) as pool:
        return list(pool.map(one, seeds, chunksize=max(1, len(seeds) // (8 * processes))))


def replay_command(seed: int) -> str:
    """What to type to see one seed again."""
    return f"python -m tests.simulation {seed} 1 --every-step"
