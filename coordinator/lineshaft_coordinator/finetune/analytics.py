"""What a training cost and reached, alone, all together, and beside others."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.finetune.checkpoints import Checkpoint
from lineshaft_coordinator.finetune.following import Following
from lineshaft_coordinator.finetune.views import View

TOP: Final = 5
_MB_IN_GB: Final = 1024


def analytics_view(following: Following, checkpoints: Sequence[Checkpoint]) -> View:
    """The answer to ``GET /api/training/{id}/analytics``."""
    fold, standing = following.fold, following.standing()
    seconds, steps = standing.elapsed_s, fold.current_step
    first, final = fold.first_loss, fold.value("train_loss")
    has_fallen = first is not None and final is not None and first != 0
    measured = fold.measured
    memory, heat = measured["gpu_memory_allocated_gb"], measured["gpu_temperature_celsius"]
    names: list[JsonValue] = [each.label for each in checkpoints]
    return {
        "job_id": following.job_id,
        "status": standing.status,
        "duration": {
            "total_seconds": round(seconds, 3),
            "total_hours": round(seconds / 3600, 4),
            "total_minutes": round(seconds / 60, 3),
        },
        "performance": {
            "average_samples_per_second": measured["samples_per_second"].mean,
            "peak_samples_per_second": measured["samples_per_second"].most,
            "average_iteration_time_seconds": seconds / steps if steps and seconds else None,
            "total_samples": fold.value("total_samples"),
        },
        "resource_utilization": {
            "average_gpu_utilization_percent": measured["gpu_utilization_percent"].mean,
            "peak_gpu_memory_mb": _megabytes(memory.most),
            "average_gpu_memory_mb": _megabytes(memory.mean),
            "average_gpu_temp_celsius": heat.mean,
            "peak_gpu_temp_celsius": heat.most,
        },
        "checkpoints": {"total_checkpoints": len(checkpoints), "checkpoint_names": names},
        "losses": {
            "initial_loss": first,
            "final_loss": final,
            "best_loss": fold.best_loss,
            "loss_reduction_percent": (
                100 * (first - final) / abs(first)
                if has_fallen and first is not None and final is not None
                else None
            ),
        },
        "efficiency": _efficiency(following),
    }


def _efficiency(following: Following) -> View:
    """Scores from 0 to 100; None where nothing was measured."""
    busy = following.fold.measured["gpu_utilization_percent"].mean
    rate = following.fold.measured["samples_per_second"]
    steady = 100 * rate.mean / rate.most if rate.mean is not None and rate.most else None
    known = [score for score in (busy, steady) if score is not None]
    return {
        "gpu_utilization_score": busy,
        "throughput_score": steady,
        "overall_score": statistics.fmean(known) if known else None,
    }


def summary_view(counts: Mapping[str, int], followed: Sequence[Following]) -> View:
    """The answer to ``GET /api/training/analytics/summary``.

    Args:
        counts: How many trainings there are, by status.
        followed: Those whose figures are taken together.
    """
    lengths = [each.standing().elapsed_s for each in followed]
    done = [s for each, s in zip(followed, lengths, strict=True) if each.status == "completed"]
    rows = [_row(each) for each in followed]
    with_loss = [row for row in rows if row["final_loss"] is not None]
    top = sorted(with_loss, key=lambda row: _number(row["final_loss"]))[:TOP]
    by_status: dict[str, JsonValue] = {**counts}
    memory = [each.fold.measured["gpu_memory_allocated_gb"].most for each in followed]
    return {
        "total_jobs": sum(counts.values()),
        "jobs_by_status": by_status,
        "average_training_duration_seconds": statistics.fmean(done) if done else None,
        "total_training_time_hours": sum(lengths) / 3600,
        "average_throughput_samples_per_sec": _mean(row["throughput"] for row in rows),
        "top_performing_jobs": [*top],
        "resource_trends": {
            "average_gpu_utilization_percent": _mean(row["gpu_utilization"] for row in rows),
            "peak_gpu_memory_mb": _megabytes(max((m for m in memory if m), default=None)),
        },
    }


def compare_view(followed: Sequence[Following]) -> View:
    """The answer to ``GET /api/training/analytics/compare``."""
    rows = [_row(each) for each in followed]
    done = [row for row in rows if row["status"] == "completed"]
    jobs: list[JsonValue] = [*rows]
    return {
        "jobs": jobs,
        "winner": {
            "best_throughput": _winner(rows, "throughput", is_most=True),
            "best_loss": _winner(rows, "final_loss", is_most=False),
            "fastest": _winner(done, "duration_seconds", is_most=False),
            "most_efficient": _winner(rows, "efficiency_score", is_most=True),
        },
    }


def _row(following: Following) -> View:
    measured = following.fold.measured
    return {
        "job_id": following.job_id,
        "name": following.request.name,
        "status": following.status,
        "duration_seconds": round(following.standing().elapsed_s, 3),
        "throughput": measured["samples_per_second"].mean,
        "final_loss": following.fold.value("train_loss"),
        "gpu_utilization": measured["gpu_utilization_percent"].mean,
        "efficiency_score": _efficiency(following)["overall_score"],
    }


def _winner(rows: Sequence[View], name: str, *, is_most: bool) -> JsonValue:
    known = [row for row in rows if row[name] is not None]
    if not known:
        return None
    sign = -1 if is_most else 1
    return min(known, key=lambda row: sign * _number(row[name]))["job_id"]


def _number(value: JsonValue) -> float:
    assert isinstance(value, int | float), "only what is a number is compared"
    return value


def _mean(values: Iterable[JsonValue]) -> float | None:
    known = [value for value in values if isinstance(value, int | float)]
    return statistics.fmean(known) if known else None


def _megabytes(gigabytes: float | None) -> float | None:
    return None if gigabytes is None else gigabytes * _MB_IN_GB
