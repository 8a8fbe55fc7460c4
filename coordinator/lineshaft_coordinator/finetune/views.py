"""What clients are told of a training: plain data made of its fold and of where the job is."""

import json
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.finetune.fold import Fold
from lineshaft_coordinator.finetune.points import stamp
from lineshaft_coordinator.finetune.words import TERMINAL, Status, whole
from lineshaft_coordinator.server.viewing import HIDDEN
from lineshaft_coordinator.strict_json import finite, strict

View = dict[str, JsonValue]


@dataclass(slots=True, kw_only=True)
class Standing:
    """Where a job is, in the dialect's words; the core says so."""

    status: Status
    attempt: int = 0
    worker_id: str | None = None
    error: str | None = None
    submitted_at: float | None = None
    """Wall times, in seconds since 1970."""
    started_at: float | None = None
    finished_at: float | None = None
    elapsed_s: float = 0.0
    """How long it has run, without pauses and waiting."""
    resumed_from: str | None = None


def seen(standing: Standing, *, shows_output: bool) -> Standing:
    """What somebody sees of it: a failure's text may be output of the training."""
    return standing if shows_output or not standing.error else replace(standing, error=HIDDEN)


@dataclass(slots=True, kw_only=True)
class Request:
    """What a training was asked for with."""

    user_id: str | None = None
    name: str | None = None
    config: View = field(default_factory=dict[str, JsonValue])

    def number(self, *names: str) -> float | None:
        """A number of the configuration, at its top or in a section of it."""
        return _number(self.config, names)


def _number(data: View, names: tuple[str, ...], depth: int = 2) -> float | None:
    for name in names:
        value = data.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return finite(value)
    for value in data.values() if depth else ():
        if isinstance(value, dict) and (found := _number(value, names, depth - 1)) is not None:
            return found
    return None


def remaining_s(fold: Fold, standing: Standing) -> float | None:
    """How long it will take yet, in seconds, if it goes on as until now."""
    if standing.status in TERMINAL:
        return 0.0 if standing.status == "completed" else None
    if fold.progress <= 0 or standing.elapsed_s <= 0:
        return None
    return round(standing.elapsed_s / (fold.progress / 100) - standing.elapsed_s, 1)


def progress_of(fold: Fold, standing: Standing) -> float:
    """How much is done, 0 to 100; all of it once it is completed."""
    return 100.0 if standing.status == "completed" else fold.progress


def samples_per_second(fold: Fold, standing: Standing, request: Request) -> float | None:
    """What the trainer says, or what follows from its steps."""
    if (said := fold.value("samples_per_second")) is not None:
        return said
    batch = request.number("batch_size", "per_device_train_batch_size")
    if batch is None or not fold.current_step or standing.elapsed_s <= 0:
        return None
    rounds = request.number("gradient_accumulation_steps") or 1
    return finite(float(fold.current_step) * batch * rounds / standing.elapsed_s)


def greeting(job_id: str, standing: Standing, at: float) -> bytes:
    """The first message to a viewer."""
    text = f"Connected to training job {job_id}"
    return _message(
        {"job_id": job_id, "status": standing.status, "message": text, "timestamp": stamp(at)}
    )


def progress_message(
    job_id: str, fold: Fold, standing: Standing, request: Request, at: float
) -> bytes:
    """How far it is, once a second."""
    return _message(
        {
            "job_id": job_id,
            "status": standing.status,
            "progress": progress_of(fold, standing),
            "current_epoch": fold.current_epoch or 0,
            "total_epochs": fold.total_epochs or 0,
            "current_step": fold.current_step or 0,
            "total_steps": fold.total_steps or 0,
            "loss": fold.value("train_loss"),
            "eval_loss": fold.value("eval_loss"),
            "samples_per_second": samples_per_second(fold, standing, request),
            "gpu_memory_allocated_gb": fold.value("gpu_memory_allocated_gb"),
            "gpu_utilization_percent": fold.value("gpu_utilization_percent"),
            "eta_seconds": remaining_s(fold, standing),
            "timestamp": stamp(at),
            "complete": False,
        }
    )


def completion_message(job_id: str, fold: Fold, standing: Standing, at: float) -> bytes:
    """How it ended; the last message."""
    return _message(
        {
            "job_id": job_id,
            "status": standing.status,
            "progress": progress_of(fold, standing),
            "final_loss": fold.value("train_loss"),
            "eval_loss": fold.value("eval_loss"),
            "complete": True,
            "completed_at": stamp(standing.finished_at),
            "error": standing.error if standing.status == "failed" else None,
            "timestamp": stamp(at),
        }
    )


def _message(data: View) -> bytes:
    return json.dumps(strict(data), allow_nan=False, separators=(",", ":")).encode()


def counters(fold: Fold, standing: Standing, request: Request) -> View:
    """What the status and the progress file say alike."""
    return {
        "current_epoch": fold.current_epoch or 0,
        "total_epochs": fold.total_epochs or 0,
        "current_step": fold.current_step or 0,
        "total_steps": fold.total_steps or 0,
        "eval_loss": fold.value("eval_loss"),
        "learning_rate": fold.value("learning_rate"),
        "grad_norm": fold.value("grad_norm"),
        "gpu_memory_allocated_gb": fold.value("gpu_memory_allocated_gb"),
        "gpu_memory_reserved_gb": fold.value("gpu_memory_reserved_gb"),
        "elapsed_seconds": round(standing.elapsed_s, 3),
        "remaining_seconds": remaining_s(fold, standing),
        "samples_per_second": samples_per_second(fold, standing, request),
        "perplexity": fold.perplexity("perplexity", "eval_loss"),
        "train_perplexity": fold.perplexity("train_perplexity", "train_loss"),
        "best_eval_loss": fold.best_eval_loss,
        "best_epoch": fold.best_epoch,
        "best_step": fold.best_step,
        "epochs_without_improvement": fold.epochs_without_improvement,
        "loss_trend": fold.loss_trend,
        **{name: whole(fold.value(name)) for name in _COUNTS},
        "batch_size": whole(request.number("batch_size", "per_device_train_batch_size")),
        "gradient_accumulation_steps": whole(request.number("gradient_accumulation_steps")),
    }


_COUNTS: Final = ("total_samples", "train_samples", "val_samples", "total_tokens_processed")


def status_view(job_id: str, fold: Fold, standing: Standing, request: Request) -> View:
    """The answer to ``GET /api/training/status/{id}``."""
    said_at = max((at for at in (fold.said_at, standing.finished_at) if at), default=None)
    strategy = request.config.get("distributed_strategy")
    return {
        "job_id": job_id,
        "user_id": request.user_id,
        "name": request.name,
        "status": standing.status,
        "progress": progress_of(fold, standing),
        "loss": fold.value("train_loss"),
        "max_learning_rate": fold.max_learning_rate,
        "gpu_utilization_percent": fold.value("gpu_utilization_percent"),
        **counters(fold, standing, request),
        "error_message": standing.error,
        "started_at": stamp(standing.started_at),
        "completed_at": stamp(standing.finished_at),
        "updated_at": stamp(said_at or standing.started_at or standing.submitted_at),
        "resume_from_checkpoint": standing.resumed_from,
        "num_gpus": whole(request.number("num_gpus")),
        "distributed_strategy": strategy if isinstance(strategy, str) else None,
        # A trainer cannot be changed while it runs, and its process is on another machine.
        "parameter_updates": [],
        "last_parameter_update_at": None,
        "process_pid": None,
    }


def progress_file(fold: Fold, standing: Standing, request: Request, at: float) -> bytes:
    """The content of ``progress.json``; its length has a bound, whatever the training's."""
    data: View = {
        "status": standing.status,
        "progress_percent": progress_of(fold, standing),
        "train_loss": fold.value("train_loss"),
        "gpu_utilization_percent": fold.value("gpu_utilization_percent"),
        **counters(fold, standing, request),
        "updated_at": stamp(at),
    }
    head = json.dumps(strict(data), allow_nan=False, separators=(",", ":")).encode()
    return head[:-1] + b',"metrics_history":' + fold.points.written() + b"}"
