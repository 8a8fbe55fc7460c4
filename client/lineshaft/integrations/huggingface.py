"""Tells what a Hugging Face `Trainer` does.

    from lineshaft.integrations.huggingface import RunCallback

    Trainer(model, args, callbacks=[RunCallback()], ...)

Outside a job it does nothing, as all of `lineshaft.run`.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from lineshaft import run

if TYPE_CHECKING:
    TrainerCallback = object
else:
    from transformers import TrainerCallback


class RunCallback(TrainerCallback):
    """Tells steps, logged numbers and saved checkpoints, and stops when the job should pause.

    A pause has the trainer save first. Only the first process of a distributed training tells.
    """

    def on_step_end(
        self, args: object, state: "State", control: "Control", **kwargs: object
    ) -> None:
        """Tell how far the training is; ask for a save and an end if the job should pause."""
        del args, kwargs
        if state.is_world_process_zero:
            run.progress(state.global_step, state.max_steps or None, phase="train")
        if run.should_pause():
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self,
        args: object,
        state: "State",
        control: object,
        logs: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """Tell what the trainer logs."""
        del args, control, kwargs
        if logs and state.is_world_process_zero:
            run.log(logs, step=state.global_step)

    def on_save(self, args: "Arguments", state: "State", control: object, **kwargs: object) -> None:
        """Keep the checkpoint that was just saved."""
        del control, kwargs
        if args.output_dir and state.is_world_process_zero:
            folder = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")  # noqa: PTH118 - as the trainer names it
            run.checkpoint(folder, step=state.global_step)


class State(Protocol):
    """What we read of a `TrainerState`."""

    global_step: int
    max_steps: int
    is_world_process_zero: bool


class Control(Protocol):
    """What we set of a `TrainerControl`."""

    should_save: bool
    should_training_stop: bool


class Arguments(Protocol):
    """What we read of `TrainingArguments`."""

    output_dir: str | None
