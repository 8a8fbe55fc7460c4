"""A small training: fits a line to noisy points by gradient descent.

Runs by itself (`python train.py`), as a job, and as an item of the array of sweep.py.
"""

import random

from lineshaft import run

STEPS = 60


def main(rate: float = 0.5, momentum: float = 0.0) -> float:
    """Return the loss in the end; smaller is better."""
    rng = random.Random(7)  # The same points for all, so that they can be compared.
    points = [(x := rng.uniform(-1, 1), 3 * x + 1 + rng.gauss(0, 0.1)) for _ in range(200)]
    slope, offset, slope_v, offset_v, loss = 0.0, 0.0, 0.0, 0.0, 0.0
    for step in range(STEPS):
        errors = [(slope * x + offset - y, x) for x, y in points]
        loss = sum(error**2 for error, _ in errors) / len(points)
        slope_v = momentum * slope_v - rate * sum(error * x for error, x in errors) / len(points)
        offset_v = momentum * offset_v - rate * sum(error for error, _ in errors) / len(points)
        slope, offset = slope + slope_v, offset + offset_v
        run.log({"loss": loss}, step=step)
        if loss > 1e3:
            raise ArithmeticError(f"it diverges at step {step}: the rate {rate} is too large")
    return loss


if __name__ == "__main__":
    print(f"loss {main():.5f}")
