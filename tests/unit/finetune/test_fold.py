"""What a training has said, taken together event by event."""

import json
import math
import random
import sys
from typing import Any

from lineshaft_coordinator.finetune.fold import Fold, dump, load
from lineshaft_coordinator.finetune.points import POINTS_MAX
from lineshaft_coordinator.finetune.views import (
    Request,
    Standing,
    progress_file,
    progress_message,
    status_view,
)
from lineshaft_protocol.events import JobEvent

FILE = {
    "status", "current_epoch", "total_epochs", "current_step", "total_steps", "progress_percent",
    "train_loss", "eval_loss", "learning_rate", "grad_norm", "gpu_memory_allocated_gb",
    "gpu_memory_reserved_gb", "gpu_utilization_percent", "elapsed_seconds", "remaining_seconds",
    "samples_per_second", "updated_at", "perplexity", "train_perplexity", "best_eval_loss",
    "best_epoch", "best_step", "epochs_without_improvement", "loss_trend", "total_samples",
    "train_samples", "val_samples", "total_tokens_processed", "batch_size",
    "gradient_accumulation_steps", "metrics_history",
}  # fmt: skip


def metrics(seq: int, step: int | None, *, attempt: int = 1, **values: Any) -> JobEvent:
    body = {"metrics": values, "step": step}
    return JobEvent(
        job_id="j", attempt=attempt, seq=seq, at=1000.0 + seq, kind="metrics", body=body
    )


def progress(seq: int, step: int, total: int) -> JobEvent:
    body: dict[str, Any] = {"step": step, "total": total, "phase": "train"}
    return JobEvent(job_id="j", attempt=1, seq=seq, at=1000.0 + seq, kind="progress", body=body)


def folded(*events: JobEvent) -> Fold:
    fold = Fold()
    for event in events:
        fold.take(event)
    return fold


def told(fold: Fold, *, elapsed_s: float = 0.0) -> dict[str, Any]:
    standing = Standing(status="running", elapsed_s=elapsed_s)
    data: dict[str, Any] = json.loads(progress_message("j", fold, standing, Request(), 1.0))
    return data


def test_s001_04_the_time_that_is_left_follows_from_the_time_that_passed() -> None:
    fold = folded(progress(1, 25, 100))

    message = told(fold, elapsed_s=60.0)

    assert message["progress"] == 25
    assert message["eta_seconds"] == 180
    assert told(folded(), elapsed_s=60.0)["eta_seconds"] is None


def test_s001_04_without_steps_the_epochs_say_how_far_it_is() -> None:
    fold = folded(metrics(1, None, total_epochs=4), metrics(2, None, epoch=1, loss=1.0))

    assert told(fold)["progress"] == 25


def test_s001_12_two_records_of_a_step_are_one_point_and_what_is_known_wins() -> None:
    fold = folded(
        metrics(1, 1, loss=1.0, lr=0.1),
        metrics(2, 1, eval_loss=2.0, loss=math.nan),
        metrics(3, 2, loss=0.5),
    )

    content = json.loads(progress_file(fold, Standing(status="running"), Request(), 1.0))

    assert set(content) == FILE
    assert [point["step"] for point in content["metrics_history"]] == [1, 2]
    first = content["metrics_history"][0]
    assert (first["train_loss"], first["eval_loss"], first["learning_rate"]) == (1.0, 2.0, 0.1)


def test_s001_12_the_hundred_thousandth_step_costs_what_the_thousandth_did() -> None:
    fold, counts = Fold(), {}
    standing, request = Standing(status="running"), Request()

    def calls_of(step: int) -> int:
        """How many Python calls and lines a step and its file take: no clock, no luck."""
        count = 0

        def trace(*_: object) -> Any:
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)
        try:
            fold.take(metrics(step, step, loss=1.0 / step))
            progress_file(fold, standing, request, 1.0)
        finally:
            sys.settrace(None)
        return count

    for step in range(1, 100_001):
        if step in (1_000, 99_999):
            counts[step] = min(calls_of(step), 10**9)
        else:
            fold.take(metrics(step, step, loss=1.0 / step))
            if step in (999, 99_998):
                progress_file(fold, standing, request, 1.0)

    content = json.loads(progress_file(fold, standing, request, 1.0))
    assert counts[99_999] < 3 * counts[1_000]
    assert len(content["metrics_history"]) <= POINTS_MAX + 1
    assert content["metrics_history"][0]["step"] == 1
    assert content["metrics_history"][-1]["step"] == 100_000
    assert len(json.dumps(dump(fold))) < 400_000


def test_s001_13_nan_is_no_value_and_no_best_one() -> None:
    fold = folded(
        metrics(1, 1, loss=1.0, eval_loss=1.0),
        metrics(2, 2, loss=math.nan, eval_loss=math.nan, lr=math.inf),
    )

    status = status_view("j", fold, Standing(status="running"), Request())

    assert (status["loss"], status["eval_loss"], status["learning_rate"]) == (None, None, None)
    assert (status["best_eval_loss"], status["best_step"]) == (1.0, 1)
    json.dumps(status, allow_nan=False)


def test_a_fold_goes_on_where_it_was_saved() -> None:
    draw = random.Random(3)
    events = [
        metrics(seq, seq // 2, loss=draw.random(), eval_loss=draw.random(), epoch=seq // 50)
        for seq in range(1, 2_000)
    ]
    middle = folded(*events[:1_111])

    again = load(json.loads(json.dumps(dump(middle))))
    for event in events:
        again.take(event)

    whole = folded(*events)
    assert dump(again) == dump(whole)
    standing = Standing(status="running")
    assert progress_file(again, standing, Request(), 1.0) == progress_file(
        whole, standing, Request(), 1.0
    )


def test_the_trend_of_the_loss() -> None:
    def trend(losses: list[float]) -> str:
        return folded(*(metrics(n, n, loss=loss) for n, loss in enumerate(losses, 1))).loss_trend

    assert trend([3, 2, 1]) == "insufficient_data"
    assert trend([4, 3, 2, 1]) == "improving"
    assert trend([1, 2, 3, 4]) == "degrading"
    assert trend([2, 2.001, 2, 2]) == "stable"


def test_epochs_without_improvement_are_counted() -> None:
    losses = [3.0, 2.0, 2.5, 2.4]
    fold = folded(*(metrics(n, n, eval_loss=loss, epoch=n - 1) for n, loss in enumerate(losses, 1)))

    assert (fold.best_eval_loss, fold.best_epoch, fold.epochs_without_improvement) == (2.0, 2, 2)


def test_the_time_of_pauses_does_not_count() -> None:
    fold = folded(
        metrics(1, 1, loss=1.0),
        metrics(11, 2, loss=1.0),
        metrics(1_001, 3, attempt=2, loss=1.0),
        metrics(1_006, 4, attempt=2, loss=1.0),
    )

    assert fold.spoken_s == 15.0


def test_an_event_counts_once() -> None:
    fold = folded(metrics(1, 1, loss=1.0), metrics(2, 2, loss=2.0))

    assert fold.take(metrics(2, 2, loss=3.0)) is False
    assert fold.value("train_loss") == 2.0
