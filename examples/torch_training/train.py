"""A PyTorch training that can be paused in the middle of an epoch, and goes on anywhere.

By itself:    pip install -r requirements.txt && python train.py
On a worker:  lineshaft run train.py:main -r requirements.txt --param epochs=200
Then:         lineshaft pause JOB, lineshaft resume JOB, lineshaft download JOB
"""

import json
import math
from pathlib import Path

import torch

from lineshaft import run

POINTS = 4096
BATCH = 32


def spirals() -> tuple[torch.Tensor, torch.Tensor]:
    """Make two spirals, which no straight line keeps apart."""
    draw = torch.Generator().manual_seed(1)
    label = torch.arange(POINTS) % 2
    angle = 3 * math.pi * torch.rand(POINTS, generator=draw) ** 0.5
    turned = angle + math.pi * label
    place = torch.stack([turned.cos(), turned.sin()], dim=1) * angle[:, None]
    noise = 0.2 * torch.randn(POINTS, 2, generator=draw)
    return (place + noise) / 9, label


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(2, 64), torch.nn.Tanh(),
        torch.nn.Linear(64, 64), torch.nn.Tanh(),
        torch.nn.Linear(64, 2),
    )  # fmt: skip


def learn(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    points: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    """Take one step; returns the loss before it."""
    loss = torch.nn.functional.cross_entropy(model(points), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def main(epochs: int = 60, rate: float = 0.01) -> dict[str, object]:
    """Train; returns the loss of each epoch."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # Sums of several threads are not the same to the last bit.
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    shuffle = torch.Generator().manual_seed(2)
    epoch, batch, losses, order = 0, 0, [], torch.randperm(POINTS, generator=shuffle)

    # All that the next step depends on: not the weights alone.
    def save() -> None:
        state = {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            "shuffle": shuffle.get_state(), "order": order,
            "epoch": epoch, "batch": batch, "losses": losses,
        }  # fmt: skip
        torch.save(state, "training.pt")
        run.checkpoint("training.pt", step=epoch * batches + batch, metadata={"epoch": epoch})

    if (saved := run.latest_checkpoint()) is not None:
        state = torch.load(saved.path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        shuffle.set_state(state["shuffle"])
        order = state["order"]
        epoch, batch, losses = state["epoch"], state["batch"], state["losses"]
        print(f"goes on in epoch {epoch + 1}, batch {batch + 1}", flush=True)

    points, labels = spirals()
    batches = POINTS // BATCH
    while epoch < epochs:
        if batch == 0:
            losses.append(0.0)
        while batch < batches:
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            losses[-1] += learn(model, optimizer, points[chosen], labels[chosen]) / batches
            batch += 1
            if batch < batches and run.should_pause():
                save()
                run.paused()
        run.log({"loss": losses[-1]}, step=epoch)
        epoch, batch = epoch + 1, 0
        order = torch.randperm(POINTS, generator=shuffle)
        run.progress(epoch, epochs, phase="train")
        if epoch % 10 == 0:
            save()  # A retry starts here, or another worker, if this one is lost.

    leave(model, losses)
    right = (model(points).argmax(dim=1) == labels).float().mean().item()
    return {"losses": losses, "accuracy": right}


def leave(model: torch.nn.Module, losses: list[float]) -> None:
    """Write what is kept of the job."""
    Path("outputs").mkdir(exist_ok=True)
    torch.save(model.state_dict(), "outputs/model.pt")
    Path("outputs/losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    run.result(main())
