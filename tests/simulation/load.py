"""What users want of the shop in a run, and what their code does when it runs."""

import base64
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import (
    ArrayItem,
    Environment,
    JobKind,
    JobSpec,
    Line,
    Parent,
    Payload,
    Timeouts,
)
from lineshaft_protocol.resources import GIB, Capacity, Gpu, Resources

BRIEF, SHORT, LONG = ("a" * 64, "b" * 64, "c" * 64)
"""Code whose calls take about 2 ms, half a second, some seconds."""

PYTHON = "3.11"

ARGUMENTS = Payload(inline="eA==")
"""What every job is called with."""

ENVIRONMENTS = tuple(
    Environment(requirements=Payload(inline=text)) for text in ("bnVtcHk=", "dG9yY2g=", "YXR0cnM=")
)
"""What some jobs want made before they start."""

IMPOSSIBLE = Resources(cpus=4000.0)
"""More than any worker has."""


def capacity_of(index: int, dice: Random) -> Capacity:
    """What a worker offers; the first can run everything that anybody asks for."""
    if index == 0:
        slots, cpus, memory, gpus = dice.choice([2, 3]), 4.0, 16, 2
    else:
        slots, cpus = dice.randint(1, 4), float(dice.randint(1, 8))
        memory, gpus = dice.choice([2, 8, 32]), dice.choice([0, 0, 1, 2])
    return Capacity(
        slots=slots,
        cpus=cpus,
        memory_bytes=memory * GIB,
        gpus=tuple(
            Gpu(uuid=f"GPU-{index}-{n}", name="test", memory_bytes=24 * GIB) for n in range(gpus)
        ),
    )


Theme = Literal["mixed", "long", "devices"]
"""What a run is about: everything, work that outlasts the patience for its worker, or GPUs."""

MIXED_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Wish:
    """One job that a user wants, when, and what he does about it."""

    at: float
    spec: JobSpec
    wants_events: bool
    cancel_after_s: float | None
    is_impossible: bool
    """No worker can ever run it."""
    pauses: tuple["PauseWish", ...] = ()


@dataclass(frozen=True, slots=True)
class PauseWish:
    """A user wants a job to pause for a while."""

    after_s: float
    for_s: float
    freeze: bool


def draw_pauses(dice: Random, wishes: list[Wish]) -> list[Wish]:
    """Draw which jobs are paused, and which may be preempted."""
    drawn: list[Wish] = []
    for wish in wishes:
        spec = wish.spec
        if spec.code != BRIEF and dice.random() < 0.3:
            spec = spec.model_copy(update={"preemptible": True})
        pauses = tuple(
            PauseWish(dice.uniform(0.0, 10.0), dice.uniform(0.1, 12.0), dice.random() < 0.4)
            for _ in range(dice.choice([0, 0, 0, 1, 1, 2]) if spec.code != BRIEF else 0)
        )
        drawn.append(replace(wish, spec=spec, pauses=pauses))
    return drawn


def draw_gangs(dice: Random, client: str, *, until_s: float) -> list[Wish]:
    """Draw what one client wants run on several workers at once."""
    wishes: list[Wish] = []
    for index in range(dice.choice([0, 0, 1, 2])):
        spec = JobSpec(
            job_id=f"{client}-g{index}",
            kind="pipeline",
            payload=ARGUMENTS,
            nodes=2,
            resources=dice.choice([None, Resources(cpus=1.0), Resources(gpus=1)]),
            retries=dice.choice([0, 1, 3]),
            priority=dice.choice([0, 0, 5]),
            # There may never be two workers again.
            timeouts=Timeouts(queue_s=60.0),
        )
        cancel_after_s = dice.uniform(0.0, 20.0) if dice.random() < 0.2 else None
        wishes.append(Wish(dice.uniform(0.0, until_s), spec, True, cancel_after_s, False))
    return wishes


def draw_wishes(dice: Random, client: str, *, theme: Theme, until_s: float) -> list[Wish]:
    """Draw all that one client asks for."""
    wishes: list[Wish] = []
    for index in range(dice.randint(4, 12)):
        at = dice.uniform(0.0, until_s)
        wishes.append(_draw_wish(dice, f"{client}-{index}", at, wishes, theme))
    if theme == "mixed" and dice.random() < 0.6:
        # A burst of brief calls, as of a map.
        at = dice.uniform(0.0, until_s)
        wishes += [
            Wish(at, _brief(f"{client}-b{index}"), False, _patience(dice), False)
            for index in range(dice.randint(10, 40))
        ]
    if theme == "mixed":
        wishes += _draw_array(client, wishes[0].at, until_s)
        wishes += _draw_line(client, wishes[0].at, until_s)
        wishes += _draw_urgent(client, wishes[0].at, until_s)
    wishes.sort(key=lambda wish: wish.at)
    return wishes


def _draw_line(client: str, salt: float, until_s: float) -> list[Wish]:
    # All clients put theirs into one line.
    dice = Random(f"{client}/{salt}/line")
    if dice.random() >= 0.2:
        return []
    return [
        Wish(
            dice.uniform(0.0, until_s),
            JobSpec(
                job_id=f"{client}-l{index}",
                kind="function",
                payload=ARGUMENTS,
                code=SHORT,
                retries=dice.choice([0, 2]),
                line=Line(name="training", at_most=1),
            ),
            False,
            dice.uniform(0.0, 5.0) if dice.random() < 0.15 else None,
            False,
        )
        for index in range(dice.randint(2, 6))
    ]


def _draw_array(client: str, salt: float, until_s: float) -> list[Wish]:
    # Dice of its own, so that what else a seed does stays what it was.
    dice = Random(f"{client}/{salt}/array")
    if dice.random() >= 0.2:
        return []
    array_id, count, at = f"{client}-a", dice.randint(3, 8), dice.uniform(0.0, until_s)
    at_most = dice.choice([1, 1, 2, 3, None])
    items = [
        ArrayItem(array_id=array_id, item=index, count=count, at_most=at_most)
        for index in range(count)
    ]
    return [
        Wish(
            at,
            JobSpec(
                job_id=f"{array_id}.{item.item}",
                kind="function",
                payload=ARGUMENTS,
                code=SHORT,
                retries=dice.choice([0, 2]),
                array=item,
            ),
            False,
            dice.uniform(0.0, 5.0) if dice.random() < 0.15 else None,
            False,
        )
        for item in items
    ]


def _draw_urgent(client: str, salt: float, until_s: float) -> list[Wish]:
    # Many that may be preempted, and others of many shapes that need their room.
    dice = Random(f"{client}/{salt}/urgent")
    if dice.random() >= 0.04:
        return []
    low = JobSpec(job_id=client, kind="pipeline", payload=ARGUMENTS, priority=-5, preemptible=True)
    high = low.model_copy(update={"priority": 5, "preemptible": None})
    low = low.model_copy(update={"name": "long"})
    shapes = ({"resources": Resources(cpus=1.0)}, {"worker_id": "worker-0"}, {"python": PYTHON})
    wishes = [
        Wish(
            dice.uniform(0.0, until_s / 4),
            low.model_copy(update={"job_id": f"{client}-p{index}"}),
            False,
            None,
            False,
        )
        for index in range(8)
    ]
    for index in range(8):
        update = {"job_id": f"{client}-u{index}", **dice.choice(shapes)}
        at = dice.uniform(until_s / 4, until_s)
        wishes.append(Wish(at, high.model_copy(update=update), False, None, False))
    return wishes


def _patience(dice: Random) -> float | None:
    return dice.uniform(0.0, 0.1) if dice.random() < 0.1 else None


def _brief(job_id: str) -> JobSpec:
    return JobSpec(job_id=job_id, kind="function", payload=ARGUMENTS, code=BRIEF)


def _draw_wish(dice: Random, job_id: str, at: float, before: list[Wish], theme: Theme) -> Wish:
    if theme == "long":
        spec = JobSpec(
            job_id=job_id,
            kind="pipeline",
            payload=ARGUMENTS,
            name="long",
            timeouts=_draw_timeouts(job_id, at, "pipeline", None),
        )
        return Wish(at / 4, spec, False, None, False)
    if theme == "devices":
        spec = JobSpec(
            job_id=job_id,
            kind="function",
            payload=ARGUMENTS,
            resources=dice.choice(
                [Resources(gpus=1), Resources(gpus=1, gpu_memory_bytes=10 * GIB), Resources(cpus=2)]
            ),
            retries=3,
        )
        return Wish(at, spec, False, None, False)
    kind: JobKind = dice.choice(
        ["function", "function", "function", "plan", "pipeline", "pipeline"]
    )
    code = dice.choice([BRIEF, SHORT, SHORT, LONG, None]) if kind == "function" else None
    is_impossible = dice.random() < 0.04
    resources = IMPOSSIBLE if is_impossible else _draw_resources(dice, kind)
    queue_s = dice.choice([None, 0.5, 10.0, 60.0]) if dice.random() < 0.25 else None
    after = _draw_after(dice, at, before)
    spec = JobSpec(
        job_id=job_id,
        kind=kind,
        payload=ARGUMENTS if dice.random() < 0.8 else Payload(blob="d" * 64),
        code=code,
        resources=resources,
        tags=("big",) if dice.random() < 0.1 else None,
        worker_id="worker-0" if dice.random() < 0.08 else None,
        priority=dice.choice([0, 0, 0, 5, -5]),
        retries=dice.choice([0, 0, 1, 2]),
        after=after,
        timeouts=_draw_timeouts(job_id, at, kind, queue_s),
        python=PYTHON if dice.random() < 0.5 else None,
        environment=_draw_environment(job_id, at) if dice.random() < 0.2 else None,
    )
    cancel_after_s = dice.uniform(0.0, 8.0) if dice.random() < 0.2 else None
    if cancel_after_s is not None and dice.random() < 0.3:
        cancel_after_s = 0.0
    return Wish(at, spec, dice.random() < 0.7, cancel_after_s, is_impossible)


def _draw_environment(job_id: str, at: float) -> Environment:
    # Dice of its own, so that what else a seed does stays what it was.
    return Random(f"{job_id}/{at}/environment").choice(ENVIRONMENTS)


def _draw_after(dice: Random, at: float, before: list[Wish]) -> tuple[str, ...] | None:
    if not before or dice.random() >= 0.25:
        return None
    earlier = [wish.spec.job_id for wish in before if wish.at <= at]
    if not earlier:
        return None
    return tuple(dict.fromkeys(dice.choices(earlier, k=dice.randint(1, 2))))


def _draw_timeouts(job_id: str, at: float, kind: JobKind, queue_s: float | None) -> Timeouts | None:
    # Dice of its own, so that what else a seed does stays what it was.
    dice = Random(f"{job_id}/{at}/timeouts")
    # A patience of its own, much shorter or longer than the lease of other work.
    lost_after_s = dice.choice([None, None, 3.0, 8.0, 30.0]) if kind == "pipeline" else None
    prepare_s = dice.choice([0.05, 2.0, 8.0]) if dice.random() < 0.08 else None
    silence_s = dice.choice([1.0, 4.0]) if dice.random() < 0.12 else None
    if queue_s is None and lost_after_s is None and prepare_s is None and silence_s is None:
        return None
    return Timeouts(
        queue_s=queue_s, prepare_s=prepare_s, silence_s=silence_s, lost_after_s=lost_after_s
    )


def _draw_resources(dice: Random, kind: JobKind) -> Resources | None:
    if kind == "plan":
        return None
    return dice.choice(
        [
            None,
            None,
            None,
            Resources(cpus=float(dice.randint(1, 4))),
            Resources(memory_bytes=dice.randint(1, 12) * GIB),
            Resources(gpus=1),
            Resources(gpus=2, cpus=1.0),
            Resources(gpus=1, gpu_memory_bytes=dice.choice([6, 10, 20]) * GIB),
            Resources(gpus=1, gpu_memory_bytes=10 * GIB),
        ]
    )


@dataclass(frozen=True, slots=True)
class Script:
    """What the code of one attempt does."""

    run_s: float
    speaks_at: tuple[float, ...]
    asks_at: tuple[float, ...]
    """When it asks for child jobs."""
    waits_together: bool
    """Whether it asks for all of them before it waits."""
    fails: bool
    must_store: bool


def script_of(seed: int, spec: JobSpec, attempt: int) -> Script:
    """What this attempt will do, wherever it runs."""
    dice = Random(f"{seed}/script/{spec.job_id}/{attempt}")
    match spec.kind:
        case "function" if spec.code == BRIEF:
            run_s = dice.uniform(0.001, 0.003) if dice.random() < 0.95 else dice.uniform(0.3, 1.5)
        case "function" if spec.code == SHORT:
            run_s = dice.uniform(0.1, 1.0)
        case "pipeline":
            run_s = dice.uniform(20.0, 60.0) if spec.name == "long" else dice.uniform(1.0, 12.0)
        case _:
            run_s = dice.uniform(0.5, 4.0)
    speaks = spec.code != BRIEF and dice.random() < 0.7
    asks = dice.randint(1, 3) if spec.kind == "plan" and dice.random() < 0.8 else 0
    return Script(
        run_s=run_s,
        speaks_at=tuple(sorted(dice.uniform(0, run_s) for _ in range(dice.randint(1, 8))))
        if speaks
        else (),
        asks_at=tuple(sorted(dice.uniform(0, run_s) for _ in range(asks))),
        waits_together=dice.random() < 0.5,
        fails=dice.random() < (0.02 if spec.code == BRIEF else 0.2),
        must_store=dice.random() < 0.2,
    )


def result_of(job_id: str, attempt: int) -> Payload:
    """What the attempt's code returns when it succeeds: no other attempt returns the same."""
    return Payload(inline=base64.b64encode(f"{job_id}#{attempt}".encode()).decode())


def child_of(job_id: JobId, attempt: int, number: int) -> JobSpec:
    """A part of a plan that is done elsewhere."""
    return JobSpec(
        job_id=f"{job_id}.{attempt}.{number}",
        kind="function",
        payload=ARGUMENTS,
        code=SHORT,
        parent=Parent(job_id=job_id, attempt=attempt),
    )
