"""Score several settings at once: a plain function, mapped over the workers.

Needs a coordinator and a worker (`lineshaft up`) and `pip install 'lineshaft[demo]'`.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import lineshaft

NEIGHBORS = (1, 3, 5, 9, 15, 25)


def score(neighbors: int) -> float:
    """Runs on a worker; what it uses of this file is sent along."""
    images, labels = load_digits(return_X_y=True)
    model = KNeighborsClassifier(neighbors)
    return float(cross_val_score(model, images, labels, cv=3).mean())


def main() -> None:
    with lineshaft.Client() as client:
        scores = list(client.map(score, NEIGHBORS))
    for neighbors, accuracy in zip(NEIGHBORS, scores, strict=True):
        print(f"{neighbors:3} neighbors: {accuracy:.4f}")
    best, neighbors = max(zip(scores, NEIGHBORS, strict=True))
    print(f"best: {neighbors} neighbors with {best:.4f}")


if __name__ == "__main__":
    main()
