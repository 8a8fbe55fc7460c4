"""Records of runs in plain files, for programs with and without a coordinator.

    from lineshaft_records import Run

    with Run("digits") as run:
        run.log_params({"lr": 0.1})
        for step in range(1000):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)

Nothing heavy is imported here: rows are brought into their files by a process of its own.
"""

import os

from lineshaft_records import launches
from lineshaft_records.run import Run

__all__ = ["Run", "sweep_params"]


def sweep_params() -> dict[str, int | float | str]:
    """Return the parameters that a sweep of expman chose for this program; empty outside of one.

    They are the variables `EXPMAN_PARAM_*`; a `Run` has them in its config.yaml, too.
    """
    return launches.sweep_params(os.environ)
