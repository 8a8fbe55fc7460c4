"""Tells what a Lightning `Trainer` does.

    from lineshaft.integrations.lightning import RunCallback

    Trainer(callbacks=[RunCallback()])

Works with `lightning` and with `pytorch_lightning`, whichever is loaded or installed. Outside a
job it does nothing, as all of `lineshaft.run`.
"""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lineshaft import run

if TYPE_CHECKING:
    Callback = object
else:

    def _callback() -> type:
        # Both may be installed, and a trainer takes only callbacks of its own package.
        names = ("lightning.pytorch", "pytorch_lightning")
        name = next((each for each in names if each in sys.modules), None)
        if name is None:
            name = names[0] if importlib.util.find_spec("lightning") else names[1]
        return importlib.import_module(name).Callback

    import importlib.util

    Callback = _callback()


class RunCallback(Callback):
    """Tells steps and logged numbers; saves a checkpoint and stops when the job should pause.

    Only the first process of a distributed training tells.

    Args:
        checkpoint_path: Where a pause saves the checkpoint, and `fit(ckpt_path=…)` finds it.
        every: Tell progress once in so many steps.
    """

    def __init__(self, checkpoint_path: str = "paused.ckpt", every: int = 1) -> None:
        super().__init__()
        self._checkpoint_path, self._every = checkpoint_path, max(every, 1)

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: object, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Tell how far the training is; save and stop if the job should pause."""
        del pl_module, outputs, batch, batch_idx
        step = trainer.global_step
        if trainer.is_global_zero and step % self._every == 0:
            total = trainer.estimated_stepping_batches
            # Without a limit it is infinite.
            run.progress(step, int(total) if 0 < total < float("inf") else None, phase="train")
            if trainer.logged_metrics:
                run.log(trainer.logged_metrics, step=step)
        if not trainer.should_stop and run.should_pause():
            # On all ranks: saving is a collective call.
            trainer.save_checkpoint(self._checkpoint_path)
            if trainer.is_global_zero and Path(self._checkpoint_path).exists():
                run.checkpoint(self._checkpoint_path, step=step)
            trainer.should_stop = True

    def on_validation_end(self, trainer: "Trainer", pl_module: object) -> None:
        """Tell what the validation found."""
        del pl_module
        if trainer.is_global_zero and trainer.callback_metrics and not trainer.sanity_checking:
            run.log(trainer.callback_metrics, step=trainer.global_step)


class Trainer(Protocol):
    """What we use of a `Trainer`."""

    global_step: int
    estimated_stepping_batches: float
    is_global_zero: bool
    sanity_checking: bool
    should_stop: bool
    logged_metrics: Mapping[str, object]
    callback_metrics: Mapping[str, object]

    def save_checkpoint(self, filepath: str) -> None:
        """Write a checkpoint; called on all ranks."""
        ...
