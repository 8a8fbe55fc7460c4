"""A trainer for Lineshaft's training server: small, without a GPU, and it can be paused anywhere.

By itself:    python train.py
As a trainer: [training] trainer = "examples/training_server" in lineshaft.toml, see
              docs/training-server.md
"""

import json
import math
import random
import time
from pathlib import Path

from lineshaft import run

Config = dict[str, object]


def number(config: Config, name: str, default: float) -> float:
    """Read a number of the configuration."""
    value = config.get(name, default)
    return float(value) if isinstance(value, int | float) else default


def loss_of(weights: list[float], points: list[tuple[float, float]]) -> float:
    slope, offset = weights
    return sum((slope * x + offset - y) ** 2 for x, y in points) / len(points)


def main(config: Config | None = None, dataset_path: str | None = None) -> dict[str, float]:
    """Fit a line to points; a step is one batch of them."""
    config = config or {}
    epochs, batch = int(number(config, "num_epochs", 3)), int(number(config, "batch_size", 8))
    rate, pause_s = number(config, "learning_rate", 0.1), number(config, "step_seconds", 0)
    points = read(dataset_path) if dataset_path else made()
    train, held_out = points[: -len(points) // 5], points[-len(points) // 5 :]
    per_epoch = math.ceil(len(train) / batch)
    weights, first = [0.0, 0.0], 1

    def save(step: int) -> None:
        # A checkpoint holds all that the next step depends on.
        Path("state.json").write_text(json.dumps({"weights": weights, "step": step}))
        epoch = (step - 1) // per_epoch
        run.checkpoint("state.json", step=step, metadata={"epoch": epoch})

    if (saved := run.latest_checkpoint()) is not None:
        state = json.loads(Path(saved.path).read_text())
        weights, first = state["weights"], state["step"] + 1
        print(f"goes on at step {first}", flush=True)

    run.log({"total_epochs": epochs, "train_samples": len(train), "val_samples": len(held_out)})
    loss = loss_of(weights, train)
    for step in range(first, epochs * per_epoch + 1):
        began = time.perf_counter()
        epoch, place = divmod(step - 1, per_epoch)
        some = train[place * batch : (place + 1) * batch]
        errors = [(weights[0] * x + weights[1] - y, x) for x, y in some]
        weights[0] -= rate * sum(error * x for error, x in errors) / len(some)
        weights[1] -= rate * sum(error for error, _ in errors) / len(some)
        time.sleep(pause_s)  # What a real step takes.
        loss = loss_of(weights, some)
        took_s = max(time.perf_counter() - began, 1e-6)
        run.log(
            {"loss": loss, "lr": rate, "epoch": epoch, "samples_per_second": len(some) / took_s},
            step=step,
        )
        run.progress(step, epochs * per_epoch, phase="train")
        if place == per_epoch - 1:
            run.log({"eval_loss": loss_of(weights, held_out), "epoch": epoch}, step=step)
            print(f"epoch {epoch + 1} of {epochs}: loss {loss:.4f}", flush=True)
            save(step)
        if run.should_pause():
            save(step)
            run.paused()

    Path("outputs").mkdir(exist_ok=True)
    Path("outputs/model.json").write_text(json.dumps({"slope": weights[0], "offset": weights[1]}))
    return {"loss": loss, "slope": weights[0], "offset": weights[1]}


def read(path: str) -> list[tuple[float, float]]:
    """Read JSON Lines with x and y."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
    return [(float(row["x"]), float(row["y"])) for row in rows]


def made() -> list[tuple[float, float]]:
    """Points near a line."""
    draw = random.Random(0)
    return [(x, 3 * x + 1 + draw.gauss(0, 0.1)) for x in (draw.random() for _ in range(200))]


if __name__ == "__main__":
    run.result(main())
