"""Where a training is, whatever is heard of it and in whatever order."""

import json
import random
import time
from pathlib import Path
from typing import Literal, cast

import pytest

from lineshaft_coordinator.finetune import views
from lineshaft_coordinator.finetune.alerts import alert_of
from lineshaft_coordinator.finetune.analytics import analytics_view
from lineshaft_coordinator.finetune.checkpoints import best_of, checkpoints_of, label_of
from lineshaft_coordinator.finetune.failures import errors_view, traceback_view
from lineshaft_coordinator.finetune.fold import Fold, Saved, dump, load
from lineshaft_coordinator.finetune.following import Following, Story, is_gpu_oom
from lineshaft_coordinator.finetune.limits import RateLimit
from lineshaft_coordinator.finetune.log_pages import log_page
from lineshaft_coordinator.finetune.settings import training_settings
from lineshaft_coordinator.finetune.views import Request
from lineshaft_coordinator.finetune.words import FIELDS, STATUSES, TERMINAL, status_of
from lineshaft_coordinator.strict_json import strict
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Failure, Outcome

ENDINGS = ("succeeded", "failed", "cancelled")


def following() -> Following:
    spec = JobSpec(job_id="j", kind="pipeline", payload=Payload.of_bytes(b""))
    story = Story(spec=spec, submitted_at=1.0)
    return Following(job_id="j", story=story, request=Request(), clock=time.time)


def outcome(status: str) -> Outcome:
    return Outcome(
        job_id="j", status=cast("Literal['succeeded', 'failed', 'cancelled']", status), attempt=1
    )


@pytest.mark.parametrize("seed", range(200))
def test_s001_29_an_end_never_changes_again(seed: int) -> None:
    draw = random.Random(seed)
    job = following()
    told: list[str] = []
    job.listeners[0] = lambda is_move: told.append(job.status) if is_move else None
    end: str | None = None
    states = [state for state in STATUSES if state not in ENDINGS]

    for seq in range(1, 60):
        match draw.choice(["move", "event", "end"] if draw.random() < 0.2 else ["move", "event"]):
            case "move":
                job.move(draw.choice(states), draw.randint(1, 4), None)
            case "event":
                body = {"metrics": {"loss": draw.random()}, "step": seq}
                at = float(seq)
                job.take(
                    JobEvent(job_id="j", attempt=1, seq=seq, at=at, kind="metrics", body={**body})
                )
            case _:
                ending = draw.choice(ENDINGS)
                end = end or status_of(ending)
                job.end(outcome(ending))
        if end is not None:
            assert job.status == end
            assert job.standing().status == end

    ends = [status for status in told if status in TERMINAL]
    assert len(ends) <= (end is not None) or set(ends) == {end}


@pytest.mark.parametrize(
    ("run_s", "passed"), [(0.01, ["running", "completed"]), (0.0, ["completed"])]
)
def test_s001_36_a_very_brief_run_was_running_all_the_same(run_s: float, passed: list[str]) -> None:
    job = following()
    told: list[str] = []
    job.listeners[0] = lambda is_move: told.append(job.status) if is_move else None

    job.end(outcome("succeeded").model_copy(update={"run_s": run_s}))

    assert told == passed


def kept(step: int | None, **facts: object) -> KeptFile:
    data = {"file_id": f"1.{step}", "kind": "checkpoint", "name": "m", "attempt": 1, "at": 1.0}
    return KeptFile.model_validate(data | {"step": step, "blob": "0" * 64, **facts})


def test_checkpoints_are_called_after_step_and_epoch() -> None:
    assert label_of(kept(5)) == "checkpoint-5"
    assert label_of(kept(5, metadata={"epoch": 0})) == "checkpoint-epoch-1-step-5"
    assert label_of(kept(None)) == "checkpoint-1.None"


def test_s001_32_the_best_checkpoint_does_well_on_what_it_has_not_seen() -> None:
    fold = Fold()
    fold.saved["1.1"] = Saved(eval_loss=0.6, train_loss=0.55, perplexity=None, epoch=1)
    fold.saved["1.2"] = Saved(eval_loss=0.5, train_loss=0.45, perplexity=None, epoch=2)
    # A little lower, but much of it learnt by heart.
    fold.saved["1.3"] = Saved(eval_loss=0.49, train_loss=0.05, perplexity=None, epoch=3)

    found = checkpoints_of([kept(n).model_dump(mode="json") for n in (1, 2, 3)], fold)

    assert [each.file.step for each in found] == [3, 2, 1]
    best = best_of(found)
    assert best is not None
    assert best.file.step == 2
    assert best_of(checkpoints_of([kept(9).model_dump(mode="json")], fold)) is None


def test_s001_36_out_of_memory_on_a_gpu_is_told_apart() -> None:
    assert is_gpu_oom(Failure(cause="exception", message="CUDA out of memory. Tried to allocate"))
    assert is_gpu_oom(Failure(cause="exception", message="x", type_name="torch.OutOfMemoryError"))
    assert not is_gpu_oom(Failure(cause="oom", message="it used more memory than it asked for"))
    assert not is_gpu_oom(None)


def test_s001_23_errors_that_differ_in_numbers_are_one() -> None:
    lines = [f"2026 ERROR: step {n} failed at 0x{n:x}" for n in range(50)] + ["ValueError: no"]

    told = errors_view("j", [], lines, None)

    assert (told["error_count"], told["unique_error_count"]) == (51, 2)


def test_s001_23_the_outermost_frame_comes_first() -> None:
    failure = Failure(
        cause="exception",
        message="no",
        type_name="ValueError",
        traceback='Error:\n  File "a.py", line 3, in main\n    f()\n  File "b.py", line 4, in f\n',
    )

    view = traceback_view(failure)

    assert view is not None
    assert view["frames"] == [
        {"file": "a.py", "line": 3, "function": "main", "code": "f()"},
        {"file": "b.py", "line": 4, "function": "f", "code": ""},
    ]


def test_an_address_may_ask_so_often_in_any_minute() -> None:
    limit = RateLimit(2)

    answers = [limit.wait_s("a", at) for at in (0.0, 30.0, 40.0, 60.1, 60.2)]

    assert answers == [0, 0, 20.0, 0, pytest.approx(29.8)]
    assert limit.wait_s("b", 40.0) == 0
    assert [RateLimit(0).wait_s("a", 0.0) for _ in range(9)] == [0.0] * 9


def test_pages_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert log_page(path, 10, 0) == ([], 0, 0)
    path.write_text("".join(f"line {n}\n" for n in range(10)) + "no end")

    assert log_page(path, 2, 3) == (["line 3", "line 4"], 11, 3)
    assert log_page(path, 5, -2) == (["line 9", "no end"], 11, 9)
    assert log_page(path, 5, -99).offset == 0
    assert log_page(path, 5, 99) == ([], 11, 11)


def test_the_environment_goes_before_the_settings_file() -> None:
    environ = {"JOB_TIMEOUT_MINUTES": "5", "CORS_ALLOWED_ORIGINS": "http://a:1, http://b:2"}

    settings = training_settings({"timeout_minutes": 7, "gpus": 2}, environ)

    assert (settings.timeout_minutes, settings.gpus) == (5, 2)
    assert settings.origins == ("http://a:1", "http://b:2")
    with pytest.raises(ValueError, match="gpu_count"):
        training_settings({"gpu_count": 2}, {})
    with pytest.raises(ValueError, match="progress_filename"):
        training_settings({}, {"PROGRESS_FILENAME": "../x"})


ODD = [
    float("nan"), float("inf"), -float("inf"), 10**400, -1, 0, 1e308, 2**60, True, None, "text",
    [], {}, {"epoch": 1}, -0.0, 5e-324,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_nothing_that_a_trainer_or_its_worker_says_does_harm(seed: int) -> None:
    draw = random.Random(seed)
    job = following()
    names = [reading.name for each in FIELDS.values() for reading in each]
    names += ["epoch", "total_epochs", "total_steps"]
    job.request.config |= {"batch_size": draw.choice(ODD), "gradient_accumulation_steps": 10**400}
    for seq in range(1, 200):
        values = {name: draw.choice([*ODD, draw.random()]) for name in draw.sample(names, 5)}
        bodies: list[tuple[str, dict[str, object]]] = [
            ("metrics", {"metrics": values, "step": draw.choice(ODD)}),
            ("progress", {"step": draw.choice(ODD), "total": draw.choice(ODD)}),
            ("checkpoint", {"metadata": draw.choice([values, *ODD])}),
            ("metrics", {"metrics": draw.choice(ODD)}),
        ]
        kind, body = draw.choice(bodies)
        at = draw.choice([1e9, float("nan"), float("inf"), -5.0, 1e300])
        job.take(
            JobEvent.model_construct(job_id="j", attempt=1, seq=seq, at=at, kind=kind, body=body)
        )

        standing, request = job.standing(), job.request
        for data in (
            views.progress_message("j", job.fold, standing, request, at),
            views.progress_file(job.fold, standing, request, at),
            json.dumps(strict(views.status_view("j", job.fold, standing, request))).encode(),
            json.dumps(strict(analytics_view(job, []))).encode(),
            json.dumps(strict(alert_of("job_failed", job))).encode(),
        ):
            assert not any(word in data for word in (b"NaN", b"Infinity"))
    assert dump(load(json.loads(json.dumps(dump(job.fold), allow_nan=False)))) == dump(job.fold)
