"""Records of runs in plain files, for programs with and without a coordinator.

    from lineshaft_records import Run

    with Run("digits") as run:
        run.log_params({"lr": 0.1})
        for step in range(1000):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)

Nothing heavy is imported here: rows are brought into their files by a process of its own.
"""

from lineshaft_records.run import Run

__all__ = ["Run"]
