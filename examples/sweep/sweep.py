"""A sweep as a job array: one training for each setting, two at a time, and a table in the end.

Needs a coordinator and a worker (`lineshaft up`); run it in this folder. A setting that diverges
fails alone. The array is found again by its id, from anywhere: `lineshaft jobs --array ID`.
"""

import itertools

import lineshaft
from lineshaft.errors import LineshaftError

RATES = (0.05, 0.5, 5.0)
MOMENTA = (0.0, 0.5)


def main() -> None:
    settings = [{"rate": r, "momentum": m} for r, m in itertools.product(RATES, MOMENTA)]
    with lineshaft.Client() as client:
        array = client.array("train.py:main", settings, files=["train.py"], at_most=2)
        counts = array.wait()
        print(f"{'rate':>6} {'momentum':>8}  {'status':<9}  loss")
        for setting, job in zip(settings, array, strict=True):
            print(f"{setting['rate']:>6} {setting['momentum']:>8}  {told(job)}")
        print(f"array {array.id}: {counts.get('succeeded', 0)} of {len(array)} succeeded")


def told(job: lineshaft.Job[object]) -> str:
    """Return how one training ended, and how well."""
    try:
        return f"{'succeeded':<9}  {job.result():.5f}"
    except (LineshaftError, ArithmeticError) as error:
        return f"{job.status:<9}  {error}"


if __name__ == "__main__":
    main()
