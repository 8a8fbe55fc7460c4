from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lineshaft_worker.devices.gpu import GpuProcess
from lineshaft_worker.devices.load import GpuLoad, LoadSample
from lineshaft_worker.devices.occupancy import (
    ForeignUse,
    Leftover,
    Quarantine,
    foreign_uses,
    is_free_for,
    leftover,
    obstacle,
    quarantine,
    unowned_bytes,
)

MIB = 1024**2
GIB = 1024 * MIB
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
OURS, THEIRS = 10, 20


def load(
    *processes: tuple[int, int | None], unowned: int = 0, fault: str | None = None, uuid: str = "a"
) -> GpuLoad:
    used = sum(amount or 0 for _, amount in processes) + unowned
    listed = tuple(GpuProcess(pid, amount, "compute") for pid, amount in processes)
    return GpuLoad(uuid, 0.0, 24 * GIB, used, 24 * GIB - used, listed, fault)


def test_only_gpus_with_a_foreign_process_are_foreign_used() -> None:
    shared = load((OURS, GIB), (THEIRS, 2 * GIB), uuid="shared")
    sample = LoadSample(NOON, 0.0, 0.0, (load(), load((OURS, GIB)), shared))

    assert foreign_uses(sample, {OURS}) == (
        ForeignUse("shared", (GpuProcess(THEIRS, 2 * GIB, "compute"),), 2 * GIB),
    )


def test_memory_without_a_process_is_foreign_beyond_the_drivers_own() -> None:
    sample = LoadSample(NOON, 0.0, 0.0, (load(unowned=256 * MIB), load(unowned=GIB, uuid="b")))

    assert foreign_uses(sample, ()) == (ForeignUse("b", (), GIB),)


def test_a_process_whose_memory_is_hidden_is_foreign_all_the_same() -> None:
    sample = LoadSample(NOON, 0.0, 0.0, (load((THEIRS, None), unowned=GIB),))

    (use,) = foreign_uses(sample, {OURS})
    assert [process.pid for process in use.processes] == [THEIRS]


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        (load(), None),
        (load(unowned=200 * MIB), None),
        (load((OURS, GIB)), None),
        (load((THEIRS, GIB)), "used by others: process 20, 1024 MiB"),
        (load((THEIRS, None)), "used by others: process 20, 0 MiB"),
        (load(unowned=GIB), "used by others: no process we can see, 1024 MiB"),
        (load(fault="it is lost"), "it is lost"),
    ],
)
def test_an_exclusive_attempt_needs_a_gpu_that_nobody_else_uses(
    gpu: GpuLoad, expected: str | None
) -> None:
    assert obstacle(gpu, 0, exclusive=True, own_pids={OURS}) == expected
    assert is_free_for(gpu, 0, exclusive=True, own_pids={OURS}) is (expected is None)


def test_a_sharing_attempt_needs_only_the_memory_it_asked_for() -> None:
    gpu = load((THEIRS, 20 * GIB))

    assert obstacle(gpu, 4 * GIB, exclusive=False, own_pids=()) is None
    assert (
        obstacle(gpu, 4 * GIB + MIB, exclusive=False, own_pids=())
        == "4097 MiB needed, 4096 MiB free"
    )


def test_memory_promised_to_our_others_and_not_yet_taken_is_not_free() -> None:
    gpu = load((OURS, 2 * GIB))

    def fits(amount: int) -> bool:
        return (
            obstacle(gpu, amount, exclusive=False, own_pids={OURS}, promised_bytes=10 * GIB) is None
        )

    assert fits(14 * GIB)
    assert not fits(14 * GIB + 1)


def test_our_others_that_took_more_than_promised_leave_what_is_free() -> None:
    gpu = load((OURS, 20 * GIB))

    assert obstacle(gpu, 4 * GIB, exclusive=False, own_pids={OURS}, promised_bytes=GIB) is None


def test_nothing_is_left_when_only_others_hold_memory() -> None:
    assert leftover(load((THEIRS, GIB)), {OURS}) is None


def test_a_process_of_the_attempt_that_holds_memory_is_left() -> None:
    assert leftover(load((OURS, GIB), (THEIRS, GIB)), {OURS, 11}) == Leftover(
        "a", (OURS,), GIB, "an ended attempt still holds 1024 MiB: process 10"
    )


def test_a_process_of_the_attempt_with_hidden_memory_is_left() -> None:
    left = leftover(load((OURS, None)), {OURS})

    assert left is not None
    assert left.pids == (OURS,)


def test_memory_nobody_gave_back_is_left() -> None:
    assert leftover(load(unowned=GIB), {OURS}) == Leftover(
        "a", (), GIB, "1024 MiB were not given back, and no process holds them"
    )


def test_memory_that_was_there_before_is_not_the_attempts() -> None:
    gpu = load(unowned=GIB)

    assert leftover(gpu, {OURS}, unowned_before_bytes=unowned_bytes(gpu)) is None


def test_a_gpu_that_cannot_be_read_proves_nothing() -> None:
    left = leftover(load(fault="it is lost"), {OURS})

    assert left is not None
    assert left.reason == "its memory cannot be checked: it is lost"


def test_a_quarantine_begins_with_a_fault_and_keeps_its_beginning() -> None:
    later = NOON + timedelta(hours=1)

    first = quarantine(load(fault="lost"), None, before=None, now=NOON)
    second = quarantine(load(fault="reset it"), None, before=first, now=later)

    assert first == Quarantine("a", "lost", NOON)
    assert second == Quarantine("a", "reset it", NOON)


def test_a_quarantine_ends_when_the_memory_is_given_back() -> None:
    held = load((OURS, GIB))
    begun = quarantine(held, leftover(held, {OURS}), before=None, now=NOON)
    assert begun is not None

    free = load()

    assert quarantine(free, leftover(free, {OURS}), before=begun, now=NOON) is None
