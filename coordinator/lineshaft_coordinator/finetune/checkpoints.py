"""The checkpoints of a training, under the names that the dialect gives them, and the best one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.finetune.fold import Fold, Saved
from lineshaft_coordinator.finetune.points import stamp
from lineshaft_coordinator.finetune.words import epoch_there, whole
from lineshaft_protocol.kept_files import KeptFile

EVAL_SHARE: Final = 0.5
GAP_SHARE: Final = 0.3
PERPLEXITY_SHARE: Final = 0.1
TREND_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that is kept."""

    file: KeptFile
    label: str
    saved: Saved


def label_of(file: KeptFile) -> str:
    """The dialect's name of a checkpoint: after its step, and its epoch if that is known."""
    if file.step is None:
        return f"checkpoint-{file.file_id}"
    epoch = (file.metadata or {}).get("epoch")
    if isinstance(epoch, int | float) and whole(epoch) is not None:
        return f"checkpoint-epoch-{epoch_there(epoch, None)}-step-{file.step}"
    return f"checkpoint-{file.step}"


def checkpoints_of(files: Sequence[JsonValue], fold: Fold) -> list[Checkpoint]:
    """The checkpoints among a job's kept files, the newest step first.

    Of two of a step, the later attempt's is shown.
    """
    found: dict[str, Checkpoint] = {}
    for each in files:
        file = KeptFile.model_validate(each)
        if file.kind == "checkpoint" and file.blob is not None:
            saved = fold.saved.get(file.file_id) or Saved(None, None, None, None)
            label = label_of(file)
            found[label] = Checkpoint(file, label, saved)
    return sorted(
        found.values(), key=lambda each: (each.file.step or 0, each.file.at), reverse=True
    )


def best_of(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest score; None if none has a loss.

    Half of the score is the loss of the evaluation, 30 % how far that is from the training's,
    10 % the perplexity, 10 % whether the loss fell since the checkpoint before.
    """
    scores: list[tuple[float, int]] = []
    for place, each in enumerate(checkpoints):
        before = checkpoints[place + 1] if place + 1 < len(checkpoints) else None
        score = _score(each.saved, before.saved if before is not None else None)
        if score is not None:
            scores.append((score, place))
    return checkpoints[min(scores)[1]] if scores else None


def _score(saved: Saved, before: Saved | None) -> float | None:
    held_out = saved.eval_loss if saved.eval_loss is not None else saved.train_loss
    if held_out is None:
        return None
    gap = max(0.0, held_out - saved.train_loss) if saved.train_loss is not None else 0.0
    perplexity = saved.perplexity
    # A perplexity is the exponent of a loss: taken back, so that it weighs like one.
    as_loss = math.log(perplexity) if perplexity is not None and perplexity > 0 else held_out
    earlier = before.eval_loss if before is not None else None
    trend = held_out - earlier if earlier is not None else 0.0
    return (
        EVAL_SHARE * held_out + GAP_SHARE * gap + PERPLEXITY_SHARE * as_loss + TREND_SHARE * trend
    )


def checkpoints_view(
    job_id: str, checkpoints: Sequence[Checkpoint], folder: Path
) -> dict[str, JsonValue]:
    """The answer to ``GET /api/training/checkpoints/{id}``."""
    best = best_of(checkpoints)
    views: list[JsonValue] = [
        {
            "path": str(folder / each.label),
            "name": each.label,
            "epoch": each.saved.epoch,
            "step": each.file.step,
            "eval_loss": each.saved.eval_loss,
            "train_loss": each.saved.train_loss,
            "size_bytes": each.file.size_bytes,
            "sha256": each.file.blob,
            "created_at": stamp(each.file.at),
            "is_best": each is best,
            "is_latest": place == 0,
        }
        for place, each in enumerate(checkpoints)
    ]
    view: dict[str, JsonValue] = {"job_id": job_id, "checkpoints": views}
    view["best_checkpoint"] = views[checkpoints.index(best)] if best is not None else None
    return view
