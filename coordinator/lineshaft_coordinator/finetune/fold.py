"""What a training has said so far, kept up to date event by event at constant cost.

It is derived: the events in the store are the truth, and the same fold over them gives the same
answer after a restart. Where the job is (queued, paused, ended) is not in it: the core knows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from pydantic import JsonValue, TypeAdapter

from lineshaft_coordinator.finetune.points import Points, epoch_of, point_of
from lineshaft_coordinator.finetune.words import moment, values_of, whole
from lineshaft_coordinator.strict_json import finite
from lineshaft_protocol.events import JobEvent

LOSSES_KEPT: Final = 20
TREND_MIN: Final = 4
TREND_SHARE: Final = 0.01
"""A change of the mean loss by less than this share is none."""
SAVED_MAX: Final = 500

Trend: TypeAlias = Literal["improving", "degrading", "stable", "insufficient_data"]


@dataclass(slots=True)
class Mean:
    """Of numbers that come one by one."""

    count: int = 0
    total: float = 0.0
    most: float | None = None

    def add(self, value: float) -> None:
        """Take one in, unless the sum would leave what a float holds."""
        if finite(self.total + value) is None:
            return
        self.count += 1
        self.total += value
        self.most = value if self.most is None else max(self.most, value)

    @property
    def mean(self) -> float | None:
        """None if there was none."""
        return self.total / self.count if self.count else None


MEASURED: Final = (
    "samples_per_second",
    "gpu_utilization_percent",
    "gpu_memory_allocated_gb",
    "gpu_temperature_celsius",
)
"""Values of which mean and peak are kept."""


@dataclass(slots=True)
class Saved:
    """How the training stood when it saved a checkpoint."""

    eval_loss: float | None
    train_loss: float | None
    perplexity: float | None
    epoch: int | None


@dataclass(slots=True)
class Fold:
    """Everything that the answers about a training are made of."""

    place: tuple[int, int] = (0, 0)
    """Attempt and seq of the last event that is in it."""
    total_epochs: int | None = None
    total_steps: int | None = None
    """What the configuration says, until the training says otherwise."""
    current_step: int | None = None
    counts_steps: bool = False
    """Whether it says by ``run.progress`` how far it is; then that counts."""
    current_epoch: int | None = None
    latest: dict[str, float] = field(default_factory=dict[str, float])
    """The last value of each field, in the units of the dialect."""
    nulls: dict[str, None] = field(default_factory=dict[str, None])
    """Fields whose last value was NaN or infinite."""
    first_loss: float | None = None
    best_loss: float | None = None
    max_learning_rate: float | None = None
    best_eval_loss: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    epochs_without_improvement: int = 0
    losses: list[float] = field(default_factory=list[float])
    """The last ones, evaluations if there are any."""
    has_evaluated: bool = False
    measured: dict[str, Mean] = field(default_factory=lambda: {name: Mean() for name in MEASURED})
    points: Points = field(default_factory=Points)
    saved: dict[str, Saved] = field(default_factory=dict[str, Saved])
    """By the id of the kept file."""
    said_at: float | None = None
    """When it last said something, wall time in seconds."""
    began_at: float | None = None
    """When the attempt first said something."""
    ran_s: float = 0.0
    """How long the attempts before it ran, as far as they said something."""
    log_bytes: int = 0
    """Length of its log up to ``place``."""

    def take(self, event: JobEvent) -> bool:
        """Take an event in; returns whether it was new."""
        if (event.attempt, event.seq) <= self.place:
            return False
        if event.attempt > self.place[0]:
            self.ran_s, self.began_at = self.spoken_s, None
        self.place = event.attempt, event.seq
        # Clocks of workers may be wrong, not to say anything.
        at = moment(event.at) or self.said_at or 0.0
        is_of_its_code = event.body.get("is_preparing") is not True
        if self.began_at is None and is_of_its_code:
            self.began_at = at
        self.said_at = at
        match event.kind, event.body:
            case "metrics", {"metrics": dict(metrics), **rest}:
                self._on_metrics(metrics, whole(rest.get("step")), at)
            case "progress", {"is_preparing": True}:
                pass
            case "progress", {"step": step, **rest}:
                self._on_progress(whole(step), whole(rest.get("total")))
            case "checkpoint", body:
                self._on_checkpoint(f"{event.attempt}.{event.seq}", body)
            case _:
                pass
        return True

    @property
    def spoken_s(self) -> float:
        """How long it ran until it last said something, all attempts together, in seconds."""
        if self.began_at is None or self.said_at is None:
            return self.ran_s
        return self.ran_s + max(0.0, self.said_at - self.began_at)

    @property
    def progress(self) -> float:
        """How much is done, 0 to 100."""
        done, total = self.current_step, self.total_steps
        if not (done is not None and total):
            # A training that only tells its epochs: those before this one are done.
            done = None if self.current_epoch is None else self.current_epoch - 1
            total = self.total_epochs
        if done is None or not total:
            return 0.0
        return round(min(100.0, max(0.0, 100.0 * done / total)), 2)

    @property
    def loss_trend(self) -> Trend:
        """Where the losses are going: the mean of the newer half beside that of the older."""
        losses = self.losses
        if len(losses) < TREND_MIN:
            return "insufficient_data"
        half = len(losses) // 2
        older = sum(losses[:half]) / half
        newer = sum(losses[half:]) / (len(losses) - half)
        if abs(newer - older) <= TREND_SHARE * abs(older):
            return "stable"
        return "improving" if newer < older else "degrading"

    def value(self, name: str) -> float | None:
        """The last value of a field; None if there is none, or it is none that JSON has."""
        return None if name in self.nulls else self.latest.get(name)

    def perplexity(self, name: str, loss: str) -> float | None:
        """A perplexity that was logged, or what follows from the loss."""
        if name in self.latest or name in self.nulls:
            return self.value(name)
        value = self.value(loss)
        return math.exp(value) if value is not None and value < 700 else None

    def _on_progress(self, step: int | None, total: int | None) -> None:
        if step is not None:
            self.current_step, self.counts_steps = step, True
        if total is not None and total > 0:
            self.total_steps = total

    def _on_metrics(self, metrics: Mapping[str, JsonValue], step: int | None, at: float) -> None:
        self.total_epochs = _count(metrics.get("total_epochs")) or self.total_epochs
        self.total_steps = _count(metrics.get("total_steps")) or self.total_steps
        epoch = epoch_of(metrics, self.total_epochs)
        if epoch is not None:
            self.current_epoch = epoch
        if step is not None and not self.counts_steps:
            self.current_step = step
        values = values_of(metrics)
        for name, value in values.items():
            if value is None:
                self.nulls[name] = None
            else:
                self.nulls.pop(name, None)
                self.latest[name] = value
                if name in self.measured:
                    self.measured[name].add(value)
        self._on_losses(values, step)
        if values or epoch is not None:
            self.points.add(point_of(metrics, step, at, self.total_epochs))

    def _on_losses(self, values: Mapping[str, float | None], step: int | None) -> None:
        rate = values.get("learning_rate")
        if rate is not None:
            self.max_learning_rate = max(rate, self.max_learning_rate or rate)
        train, held_out = values.get("train_loss"), values.get("eval_loss")
        if train is not None:
            self.first_loss = train if self.first_loss is None else self.first_loss
            self.best_loss = train if self.best_loss is None else min(train, self.best_loss)
        if held_out is not None:
            if not self.has_evaluated:
                self.has_evaluated, self.losses = True, []
            self._on_evaluation(held_out, step if step is not None else self.current_step)
        loss = held_out if self.has_evaluated else train
        if loss is not None:
            self.losses = [*self.losses[1 - LOSSES_KEPT :], loss]

    def _on_evaluation(self, loss: float, step: int | None) -> None:
        if self.best_eval_loss is None or loss < self.best_eval_loss:
            self.best_eval_loss, self.best_epoch, self.best_step = loss, self.current_epoch, step
            self.epochs_without_improvement = 0
        elif self.current_epoch is not None and self.best_epoch is not None:
            self.epochs_without_improvement = max(0, self.current_epoch - self.best_epoch)

    def _on_checkpoint(self, file_id: str, body: Mapping[str, JsonValue]) -> None:
        metadata = body.get("metadata")
        own = values_of(metadata) if isinstance(metadata, dict) else {}
        epoch = epoch_of(metadata, self.total_epochs) if isinstance(metadata, dict) else None
        if len(self.saved) >= SAVED_MAX:
            del self.saved[next(iter(self.saved))]
        self.saved[file_id] = Saved(
            eval_loss=own.get("eval_loss", self.value("eval_loss")),
            train_loss=own.get("train_loss", self.value("train_loss")),
            perplexity=own.get("perplexity", self.perplexity("perplexity", "eval_loss")),
            epoch=epoch if epoch is not None else self.current_epoch,
        )


def _count(value: JsonValue) -> int | None:
    number = whole(value)
    return number if number is not None and number > 0 else None


_FOLD: Final = TypeAdapter(Fold)


def dump(fold: Fold) -> dict[str, JsonValue]:
    """Return a fold as JSON data."""
    data = _FOLD.dump_python(fold, mode="json")
    data["points"].pop("_written", None)
    return cast("dict[str, JsonValue]", data)


def load(data: JsonValue) -> Fold:
    """Read what `dump` gave.

    Raises:
        ValueError: It is none.
    """
    fold = _FOLD.validate_python(data)
    fold.points.settle()
    return fold
