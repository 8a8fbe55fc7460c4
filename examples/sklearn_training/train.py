"""A scikit-learn training in an environment of its own.

On a worker, which installs it: lineshaft run train.py -r requirements.txt
Another setting:                lineshaft run train.py:main -r requirements.txt --param c=0.1
Where scikit-learn is:          python train.py

The worker needs nothing of this installed. The model comes back with `lineshaft download JOB`.
"""

import sys
from pathlib import Path

import joblib
import sklearn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lineshaft import run


def main(c: float = 0.05, folds: int = 5) -> dict[str, object]:
    """Score a classifier of handwritten digits, then fit it on all of them and keep it."""
    images, labels = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500))
    scores: list[float] = []
    parts = StratifiedKFold(folds, shuffle=True, random_state=0).split(images, labels)
    for fold, (train, test) in enumerate(parts, 1):
        model.fit(images[train], labels[train])
        scores.append(float(model.score(images[test], labels[test])))
        run.progress(fold, folds, phase="validate")
        run.log({"accuracy": scores[-1]}, step=fold)
    accuracy = sum(scores) / folds
    model.fit(images, labels)
    Path("outputs").mkdir(exist_ok=True)
    joblib.dump(model, "outputs/model.joblib")
    print(f"scikit-learn {sklearn.__version__}, accuracy {accuracy:.4f} with C = {c}")
    return {"accuracy": accuracy, "sklearn": sklearn.__version__, "prefix": sys.prefix}


if __name__ == "__main__":
    run.result(main())
