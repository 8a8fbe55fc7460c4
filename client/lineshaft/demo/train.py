"""A training script as anybody might write it: `lineshaft run train.py:main --param epochs=40`.

It also runs by itself, `python train.py`: outside a job, reports go nowhere.
"""

# scikit-learn tells only some of its types, and some wrongly.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportArgumentType=false

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from lineshaft import run


def main(epochs: int = 40, hidden: int = 64, *, says: bool = True) -> dict[str, float]:
    """Train a small network and return its loss and held-out accuracy."""
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        images / 16, labels, test_size=0.25, random_state=0, stratify=labels
    )
    model = MLPClassifier((hidden,), batch_size=32, random_state=0)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        model.partial_fit(x, y, classes=range(10))
        accuracy = float(model.score(x_test, y_test))
        run.progress(epoch, epochs, phase="train")
        run.log({"loss": model.loss_, "accuracy": accuracy}, step=epoch)
        if says and epoch % 10 == 0:
            print(f"epoch {epoch}: loss {model.loss_:.4f}, accuracy {accuracy:.4f}")  # noqa: T201
    return {"loss": float(model.loss_), "accuracy": accuracy}


if __name__ == "__main__":
    main()
