"""Many seeds at once."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.run import Report, run


def simulate(seeds: Sequence[int], *, check_every: int, story: int, processes: int) -> list[Report]:
    """Run seeds, in several processes if asked; the reports are in the order of the seeds."""
    one = partial(run, check_every=check_every, story=story)
    if processes <= 1:
        return [one(seed) for seed in seeds]
    # Fresh interpreters: forking one with threads may lock up.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return list(pool.map(one, seeds, chunksize=max(1, len(seeds) // (8 * processes))))


def replay_command(seed: int) -> str:
    """What to type to see one seed again."""
    return f"python -m tests.simulation {seed} 1 --every-step"
