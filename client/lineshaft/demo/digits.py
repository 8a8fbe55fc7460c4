"""Handwritten digits: the work that the demo gives to its workers, and its own filters."""

# scikit-learn tells only some of its types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from lineshaft.filters import Filter
from lineshaft.pipeline import Pipeline

Matrix: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]


class Digits(NamedTuple):
    """1797 images of 8 by 8 pixels from scikit-learn, a quarter of them held out."""

    train: Matrix
    test: Matrix
    train_labels: Labels
    test_labels: Labels


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sweep varies."""

    components: int
    penalty: float


class Moments(NamedTuple):
    """What a `Scaler` learns."""

    mean: Matrix
    deviation: Matrix


class Scaler(Filter):
    """Gives each pixel mean 0 and a deviation near 1."""

    def fit(self, x: Matrix) -> Moments:
        """Return the pixels' moments."""
        # Pixels at the border are always 0; the 1 keeps them from being divided by that.
        return Moments(x.mean(axis=0), x.std(axis=0) + 1)

    def forward(self, x: Matrix, state: Moments) -> Matrix:
        """Return the scaled images."""
        return (x - state.mean) / state.deviation


@dataclass(frozen=True)
class PrincipalComponents(Filter):
    """Keeps the directions in which images differ most."""

    count: int

    def fit(self, x: Matrix) -> Matrix:
        """Return the directions, as columns."""
        _, _, directions = np.linalg.svd(x, full_matrices=False)
        return directions[: self.count].T

    def forward(self, x: Matrix, state: Matrix) -> Matrix:
        """Return where the images lie along the directions."""
        return x @ state


def load() -> Digits:
    """Return the images and labels, always split in the same way."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    return Digits(*parts)  # pyright: ignore[reportArgumentType] - arrays, as they were given


def count() -> float:
    """Return how many images there are."""
    return float(len(load().train_labels) + len(load().test_labels))


def pipeline(setting: Setting) -> Pipeline:
    """Return two filters of our own and an estimator of scikit-learn."""
    return Pipeline(
        [
            ("scale", Scaler()),
            ("components", PrincipalComponents(setting.components)),
            ("classify", SVC(C=setting.penalty)),
        ]
    )


def accuracy(found: object, expected: Labels) -> float:
    """Return the share of labels that are right."""
    return float(np.mean(cast("Labels", found) == expected))


def are_same(found: object, expected: object) -> bool:
    """Say whether two results hold the same labels."""
    return np.array_equal(cast("Labels", found), cast("Labels", expected))


def score(setting: Setting) -> float:
    """Fit with one setting and return the held-out accuracy; a job of the sweep."""
    digits = load()
    fitted = pipeline(setting).fit(digits.train, digits.train_labels)
    return accuracy(fitted.forward(digits.test), digits.test_labels)


def sweep() -> list[Setting]:
    """Return twelve settings."""
    return [
        Setting(components, penalty)
        for components in (5, 10, 20, 40)
        for penalty in (0.1, 1.0, 10.0)
    ]
