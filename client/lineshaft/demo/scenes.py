"""What the demo has its workers do, and what it holds about the results."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files

from lineshaft.async_client import AsyncClient
from lineshaft.cli.asking import outcome_of
from lineshaft.cli.exits import FailedError
from lineshaft.demo import digits, train
from lineshaft.demo.stage import Stage
from lineshaft.job import AsyncJob
from lineshaft.job_events import Metrics, Progress

ACCURACY_MIN = 0.95
EPOCHS = 40
SETTING = digits.Setting(components=40, penalty=10.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One job of the demo."""

    what: str
    worker_id: str
    run_s: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold; what was seen is in the text."""

    text: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """What came out of one part of the demo."""

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]


async def warm_up(client: AsyncClient, worker_ids: list[str]) -> None:
    """Have each worker import what the demo needs, so that later times are those of the work."""
    jobs = [client.submit(digits.count, name="warm-up", worker=each) for each in worker_ids]
    await asyncio.gather(*(_scored(job) for job in jobs))


async def fit_and_score(client: AsyncClient, stage: Stage) -> Scene:
    """Fit a pipeline of filters on one worker, and score it on any."""
    data = digits.load()
    pipeline = digits.pipeline(SETTING)
    with stage.act("Pipeline of filters") as act:
        before = await _job_ids(client)
        fitted = await client.fit(pipeline, data.train, data.train_labels)
        labels = await client.forward(fitted, data.test)
        accuracy = digits.accuracy(labels, data.test_labels)
        act.summary = f"held-out accuracy {accuracy:.4f}"
    rows = [
        await _row(client, job_id, what, accuracy if what == "forward" else None)
        for job_id, what in (await _job_ids(client)).items()
        if job_id not in before
    ]
    local = await asyncio.to_thread(pipeline.fit, data.train, data.train_labels)
    same = digits.are_same(labels, local.forward(data.test))
    checks = (
        _accurate("pipeline", accuracy),
        Check("pipeline: same labels as fitted in this process", same),
    )
    return Scene(tuple(reversed(rows)), checks)


async def sweep(client: AsyncClient, stage: Stage, worker_ids: list[str]) -> Scene:
    """Score twelve settings, on all workers at once."""
    settings = digits.sweep()
    with stage.act("Sweep of settings", total=len(settings)) as act:
        jobs = [
            client.submit(digits.score, each, name=f"C={each.penalty:g} of {each.components}")
            for each in settings
        ]
        for count, job in enumerate(asyncio.as_completed([_scored(each) for each in jobs]), 1):
            accuracy = await job
            act.move(count, text=f"last: {accuracy:.4f}")
        scores = [await job for job in jobs]
        act.summary = f"best of {len(jobs)} has accuracy {max(scores):.4f}"
    rows = [
        await _outcome_row(job, f"{each.components} components, C={each.penalty:g}", score)
        for job, each, score in zip(jobs, settings, scores, strict=True)
    ]
    counts = dict.fromkeys(worker_ids, 0)
    for row in rows:
        counts[row.worker_id] = counts.get(row.worker_id, 0) + 1
    shares = ", ".join(f"{count} on {worker_id}" for worker_id, count in counts.items())
    local = await asyncio.to_thread(lambda: [digits.score(each) for each in settings])
    checks = (
        _accurate("sweep", max(scores)),
        Check("sweep: same scores as in this process", local == scores),
        Check(f"sweep: every worker took part ({shares})", all(counts.values())),
    )
    return Scene(tuple(rows), checks)


async def train_script(client: AsyncClient, stage: Stage) -> Scene:
    """Run a training script from a file, and follow it live."""
    script = (files("lineshaft.demo") / "train.py").read_text(encoding="utf-8")
    progress_count = 0
    with stage.act("Training script", total=EPOCHS) as act:
        job = client.run(
            "train.py:main", files={"train.py": script}, params={"epochs": EPOCHS}, name="train.py"
        )
        text = "starting"
        async with aclosing(job.events()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    progress_count += 1
                    act.move(event.step, event.total, text=text)
                elif isinstance(event, Metrics):
                    text = ", ".join(f"{key} {each:.4f}" for key, each in event.metrics.items())
        found = _numbers(await job)
        act.summary = f"loss {found['loss']:.4f}, held-out accuracy {found['accuracy']:.4f}"
    local = await asyncio.to_thread(train.main, EPOCHS, says=False)
    checks = (
        _accurate("training", found["accuracy"]),
        Check("training: same accuracy as in this process", local["accuracy"] == found["accuracy"]),
        Check(f"training: told {progress_count} times how far it is", progress_count == EPOCHS),
    )
    row = await _outcome_row(job, f"train.py, {EPOCHS} epochs", found["accuracy"])
    return Scene((row,), checks)


def _accurate(what: str, accuracy: float) -> Check:
    return Check(
        f"{what}: accuracy {accuracy:.4f} of at least {ACCURACY_MIN}", accuracy >= ACCURACY_MIN
    )


async def _scored(job: AsyncJob[float]) -> float:
    return await job


async def _outcome_row(
    job: AsyncJob[object] | AsyncJob[float], what: str, accuracy: float | None
) -> Row:
    outcome = await outcome_of(job)
    return Row(what, outcome.worker_id or "", outcome.run_s or 0.0, accuracy)


async def _job_ids(client: AsyncClient) -> dict[str, str]:
    """Names of all jobs by their ids, the last submitted first."""
    found: dict[str, str] = {}
    jobs = await client.jobs()
    for job in jobs if isinstance(jobs, list) else []:
        match job:
            case {"job_id": str(job_id), "name": str(name)}:
                found[job_id] = name
            case _:
                continue
    return found


async def _row(client: AsyncClient, job_id: str, what: str, accuracy: float | None) -> Row:
    return await _outcome_row(client.job(job_id), what, accuracy)


def _numbers(result: object) -> dict[str, float]:
    match result:
        case {"loss": float(loss), "accuracy": float(accuracy)}:
            return {"loss": loss, "accuracy": accuracy}
        case _:
            raise FailedError(f"the training script returned {result!r} instead of its numbers")
