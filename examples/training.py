"""A training script that tells how far it is.

By itself:             python training.py
On a worker:           lineshaft run training.py
With other parameters: lineshaft run training.py:main --param epochs=50 --param rate=0.5
"""

import math
import random

from lineshaft import run


def main(epochs: int = 20, rate: float = 0.2) -> dict[str, float]:
    """Fit a line to noisy points by gradient descent."""
    draw = random.Random(0)
    points = [(x / 50, 3 * x / 50 + 1 + draw.gauss(0, 0.1)) for x in range(100)]
    slope = intercept = 0.0
    loss = math.inf
    for epoch in range(1, epochs + 1):
        errors = [(slope * x + intercept - y, x) for x, y in points]
        loss = sum(error**2 for error, _ in errors) / len(points)
        slope -= rate * sum(error * x for error, x in errors) / len(points)
        intercept -= rate * sum(error for error, _ in errors) / len(points)
        run.progress(epoch, epochs, phase="train")
        run.log({"loss": loss}, step=epoch)
    print(f"y = {slope:.2f} x + {intercept:.2f}, loss {loss:.4f}")
    return {"slope": slope, "intercept": intercept, "loss": loss}


if __name__ == "__main__":
    run.result(main())
