"""Write filters, fit them on a worker, and use what was fitted there and here.

Needs a coordinator and a worker (`lineshaft up`) and `pip install 'lineshaft[demo]'`.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import lineshaft


class Center(lineshaft.Filter):
    """Moves the mean of each column to 0. What `fit` returns is the state of `forward`."""

    def fit(self, x):
        return x.mean(axis=0)

    def forward(self, x, state):
        return x - state


class Whiten(lineshaft.Filter):
    """Turns the columns so that they are independent, and scales them alike."""

    def __init__(self, count):
        self.count = count

    def fit(self, x):
        _, sizes, directions = np.linalg.svd(x, full_matrices=False)
        return directions[: self.count].T / sizes[: self.count] * np.sqrt(len(x))

    def forward(self, x, state):
        return x @ state


def main() -> None:
    x, x_test, y, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
    pipeline = lineshaft.Pipeline(
        [
            ("center", Center()),
            ("whiten", Whiten(30)),
            ("classify", LogisticRegression(max_iter=500)),  # any estimator is a filter
        ]
    )
    with lineshaft.Client() as client:
        fitted = client.fit(pipeline, x, y)  # on a worker
        labels = client.forward(fitted, x_test)  # on a worker, maybe another
    print(f"held-out accuracy: {np.mean(labels == y_test):.4f}")
    here = fitted.forward(x_test)  # the same, in this process
    print(f"same labels here: {np.array_equal(labels, here)}")


if __name__ == "__main__":
    main()
