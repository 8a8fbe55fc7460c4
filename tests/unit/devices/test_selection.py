from __future__ import annotations

import pytest

from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuSurvey
from lineshaft_worker.devices.selection import UnavailableDeviceError, select, visible


def gpu(index: int, uuid: str, parent: str | None = None) -> GpuInfo:
    return GpuInfo(index, uuid, "L4", 1, parent is not None, parent, None, "")


MACHINE = GpuSurvey(
    (gpu(0, "GPU-aa1"), gpu(1, "GPU-aa2"), gpu(2, "MIG-x", "GPU-b"), gpu(2, "MIG-y", "GPU-b")),
    (GpuFault(3, "GPU-c", "lost"), GpuFault(4, None, "lost")),
)


def names(survey: GpuSurvey) -> list[str | int]:
    return [*(gpu.uuid for gpu in survey.gpus), *(fault.index for fault in survey.faults)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["GPU-aa1", "GPU-aa2", "MIG-x", "MIG-y", 3, 4]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,0", ["GPU-aa2", "GPU-aa1"]),
        (" 1 , GPU-aa1 ", ["GPU-aa2", "GPU-aa1"]),
        ("0,7,1", ["GPU-aa1"]),
        ("0,-1,1", ["GPU-aa1"]),
        ("0,0", ["GPU-aa1"]),
        ("GPU-aa2", ["GPU-aa2"]),
        ("GPU-c", [3]),
        ("GPU-aa", []),
        ("MIG-y", ["MIG-y"]),
        ("2", ["MIG-x", "MIG-y"]),
        ("GPU-b", ["MIG-x", "MIG-y"]),
        ("3,0", ["GPU-aa1", 3]),
        ("²", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_does(
    value: str | None, expected: list[str | int]
) -> None:
    assert names(visible(MACHINE, value)) == expected


def test_a_uuid_nobody_has_may_be_the_gpu_that_failed_before_it_told_its_own() -> None:
    assert names(select(MACHINE, ["GPU-zz"])) == [4]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, ["GPU-aa1", "GPU-aa2", "MIG-x", "MIG-y", 3, 4]),
        (0, []),
        (1, ["GPU-aa1"]),
        (5, ["GPU-aa1", "GPU-aa2", "MIG-x", "MIG-y", 3]),
        ([1], ["GPU-aa2"]),
        ([1, "MIG-x", 1], ["GPU-aa2", "MIG-x"]),
        ([3], [3]),
        ([], []),
    ],
)
def test_operators_choose_by_number_index_or_uuid(
    wanted: int | list[int | str] | None, expected: list[str | int]
) -> None:
    assert names(select(MACHINE, wanted)) == expected


@pytest.mark.parametrize("wanted", [7, -1, [9], ["gpu0"], ["GPU-aa"]])
def test_a_choice_the_machine_has_not_is_refused(wanted: int | list[int | str]) -> None:
    with pytest.raises(UnavailableDeviceError, match=r"0: L4 \(GPU-aa1\).*3: failing, lost"):
        select(MACHINE, wanted)
