"""A PyTorch training in several processes that share their gradients, with torch.distributed.

On one worker:   lineshaft run train.py:main -r requirements.txt --processes 2
On two workers:  lineshaft run train.py:main -r requirements.txt --nodes 2
Without Lineshaft: torchrun --nproc-per-node 2 train.py
"""

import torch
import torch.distributed as dist

from lineshaft import run

POINTS = 512


def points() -> tuple[torch.Tensor, torch.Tensor]:
    """Make points near a plane; every rank makes the same."""
    draw = torch.Generator().manual_seed(1)
    places = torch.randn(POINTS, 3, generator=draw)
    noise = 0.1 * torch.randn(POINTS, generator=draw)
    return places, places @ torch.tensor([1.0, -2.0, 0.5]) + 3.0 + noise


def main(steps: int = 100, rate: float = 0.1) -> dict[str, object]:
    """Train on this rank's share of the points; returns losses and what was learnt."""
    # Where the ranks meet, and who is who, is in the environment.
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(1)
    places, heights = (each[rank::world] for each in points())
    torch.manual_seed(0)  # All start from the same weights.
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses: list[float] = []
    for step in range(steps):
        loss = torch.nn.functional.mse_loss(model(places).squeeze(1), heights)
        optimizer.zero_grad()
        loss.backward()
        # What DistributedDataParallel does: the mean of all ranks' gradients, on every rank.
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
        optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(mean.item() / world)
        if rank == 0:
            run.log({"loss": losses[-1]}, step=step)
            run.progress(step + 1, steps, phase="train")
    learnt = [round(each, 4) for each in (*model.weight[0].tolist(), model.bias.item())]
    print(f"rank {rank} of {world}, {len(heights)} points: {learnt}", flush=True)
    dist.destroy_process_group()
    return {"losses": losses, "learnt": learnt}


if __name__ == "__main__":
    run.result(main())
