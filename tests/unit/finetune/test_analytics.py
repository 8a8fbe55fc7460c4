"""What trainings cost and reached, and which of several did best."""

import time
from collections.abc import Sequence
from typing import Any

from lineshaft_coordinator.finetune.alerts import alert_of
from lineshaft_coordinator.finetune.analytics import analytics_view, compare_view, summary_view
from lineshaft_coordinator.finetune.following import Following, Story
from lineshaft_coordinator.finetune.machine import with_machine
from lineshaft_coordinator.finetune.views import Request
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import Outcome


def trained(
    job_id: str, losses: Sequence[float], *, step_s: float, rate: float, busy: float
) -> Following:
    """A completed training that told a loss each so many seconds."""
    spec = JobSpec(job_id=job_id, kind="pipeline", payload=Payload.of_bytes(b""))
    story = Story(spec=spec, submitted_at=1.0)
    job = Following(job_id=job_id, story=story, request=Request(), clock=time.time)
    for step, loss in enumerate(losses):
        told: dict[str, Any] = {"loss": loss, "samples_per_second": rate, "gpu_util": busy}
        body: dict[str, Any] = {"metrics": told, "step": step}
        at = 1000.0 + step_s * step
        job.take(JobEvent(job_id=job_id, attempt=1, seq=step + 1, at=at, kind="metrics", body=body))
    job.end(Outcome(job_id=job_id, status="succeeded", attempt=1))
    return job


SLOW = trained("slow", [2.0, 0.5, 1.0], step_s=60.0, rate=10.0, busy=0.9)
FAST = trained("fast", [2.0, 1.5], step_s=30.0, rate=40.0, busy=0.2)


def test_s001_34_the_best_loss_need_not_be_the_last() -> None:
    told = analytics_view(SLOW, ())

    assert told["losses"] == {
        "initial_loss": 2.0,
        "final_loss": 1.0,
        "best_loss": 0.5,
        "loss_reduction_percent": 50.0,
    }
    assert told["duration"] == {"total_seconds": 120.0, "total_hours": 0.0333, "total_minutes": 2.0}


def test_s001_34_what_the_trainer_did_not_tell_of_gpus_is_the_machines() -> None:
    curves = {
        "sys/gpu.0.temp_c": {"values": [50.0, 70.0]},
        "sys/gpu.1.temp_c": {"values": [60.0]},
        "sys/gpu.0.util_pct": {"values": [1.0]},
        "sys/cpu.util_pct": {"values": [99.0]},
    }

    told: Any = with_machine(analytics_view(SLOW, ()), curves)["resource_utilization"]
    silent: Any = with_machine(analytics_view(SLOW, ()), {})["resource_utilization"]

    assert (told["average_gpu_temp_celsius"], told["peak_gpu_temp_celsius"]) == (60.0, 70.0)
    assert told["average_gpu_utilization_percent"] == 90.0, "as the trainer said"
    assert told["peak_gpu_memory_mb"] is None
    assert (silent["average_gpu_temp_celsius"], silent["peak_gpu_temp_celsius"]) == (None, None)


def test_s001_35_each_prize_goes_to_who_has_won_it() -> None:
    for rows in ((SLOW, FAST), (FAST, SLOW)):  # Whoever is named first.
        told = compare_view(rows)

        assert told["winner"] == {
            "best_throughput": "fast",
            "best_loss": "slow",
            "fastest": "fast",
            "most_efficient": "slow",
        }


def test_s001_35_the_least_loss_is_on_top_of_the_summary() -> None:
    told = summary_view({"completed": 2, "failed": 1}, (FAST, SLOW))
    top: Any = told["top_performing_jobs"]

    assert [row["job_id"] for row in top] == ["slow", "fast"]
    assert told["total_jobs"] == 3
    assert told["average_training_duration_seconds"] == 75.0
    assert told["total_training_time_hours"] == 150 / 3600
    assert told["average_throughput_samples_per_sec"] == 25.0


def test_s001_36_an_alert_says_in_milliseconds_how_long_it_took() -> None:
    told = alert_of("job_completed", SLOW)

    assert (told["type"], told["status"], told["duration"]) == (
        "job_completed",
        "completed",
        120_000,
    )
