"""GPUs as the driver shows them, through the compiled stand-in library."""

from __future__ import annotations

import pytest
from tests.nvml.probe import Probe
from tests.nvml.standin import GIB, GPU_IS_LOST, UNKNOWN, StandinState

from lineshaft_worker.devices.gpu import (
    GpuFault,
    GpuInfo,
    GpuProcess,
    GpuReading,
    GpuSurvey,
    NvmlUnavailable,
)


def surveyed(probe: Probe) -> GpuSurvey:
    answer = probe.survey()
    assert not isinstance(answer, NvmlUnavailable)
    return answer


def test_a_driver_without_gpus_is_an_empty_survey(probe: Probe) -> None:
    assert probe.open() is None

    assert surveyed(probe) == GpuSurvey((), ())


def test_a_gpu_is_described_in_full(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a", name="NVIDIA L4", memory=24 * GIB, numa=3, bus="00000000:3B:00.0")
    probe.open()

    assert surveyed(probe).gpus == (
        GpuInfo(0, "GPU-a", "NVIDIA L4", 24 * GIB, False, None, 3, "00000000:3B:00.0"),
    )


def test_a_gpu_on_a_far_numa_node_keeps_its_number(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a", numa=70)
    probe.open()

    assert [gpu.numa_node for gpu in surveyed(probe).gpus] == [70]


def test_eight_gpus_are_all_there_in_the_drivers_order(probe: Probe, state: StandinState) -> None:
    uuids = [state.add_gpu().uuid for _ in range(8)]
    probe.open()

    found = surveyed(probe)

    assert [(gpu.index, gpu.uuid) for gpu in found.gpus] == list(enumerate(uuids))
    assert found.faults == ()


def test_a_gpu_that_gives_no_handle_hides_none_of_the_others(
    probe: Probe, state: StandinState
) -> None:
    for name in ("GPU-a", "GPU-b", "GPU-c"):
        state.add_gpu(name)
    state.change("GPU-b", handle_error=GPU_IS_LOST)
    probe.open()

    found = surveyed(probe)

    assert [gpu.uuid for gpu in found.gpus] == ["GPU-a", "GPU-c"]
    assert [(fault.index, fault.uuid) for fault in found.faults] == [(1, None)]
    assert "lost" in found.faults[0].reason


@pytest.mark.parametrize(
    ("code", "word"), [(GPU_IS_LOST, "lost"), (UNKNOWN, "daemon-reload"), (16, "reset")]
)
def test_a_gpu_that_fails_while_running_is_a_fault_beside_good_readings(
    probe: Probe, state: StandinState, code: int, word: str
) -> None:
    for name in ("GPU-a", "GPU-b", "GPU-c"):
        state.add_gpu(name)
    probe.open()
    gpus = surveyed(probe).gpus

    state.change("GPU-b", error=code)
    first, second, third = probe.read(gpus)

    assert isinstance(first, GpuReading)
    assert isinstance(second, GpuFault)
    assert (second.index, second.uuid) == (1, "GPU-b")
    assert word in second.reason
    assert isinstance(third, GpuReading)


def test_a_gpu_that_was_taken_out_is_a_fault(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    state.add_gpu("GPU-b")
    probe.open()
    gpus = surveyed(probe).gpus

    state.remove("GPU-b")

    assert [type(answer) for answer in probe.read(gpus)] == [GpuReading, GpuFault]


def test_a_reading_tells_memory_utilisation_and_processes(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a", memory=24 * GIB, reserved=GIB, util=37)
    state.start("GPU-a", 20, 3 * GIB)
    state.start("GPU-a", 10, GIB, kind="graphics")
    state.start("GPU-a", 30, None)
    probe.open()

    assert probe.read(surveyed(probe).gpus) == (
        GpuReading(
            "GPU-a",
            utilisation=0.37,
            memory_total_bytes=24 * GIB,
            memory_used_bytes=4 * GIB,
            memory_free_bytes=19 * GIB,
            processes=(
                GpuProcess(10, GIB, "graphics"),
                GpuProcess(20, 3 * GIB, "compute"),
                GpuProcess(30, None, "compute"),
            ),
            ecc_uncorrected=0,
        ),
    )


def test_s000_30_a_reading_tells_how_warm_a_gpu_is_and_what_it_takes(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a", temp=61, power=123_450)
    state.add_gpu("GPU-b", temp=0)
    state.add_gpu("GPU-c", temp=48, power=70_000)
    state.add_mig("GPU-c", "MIG-1")
    probe.open()

    told = [
        (each.uuid, each.temperature_c, each.power_w)
        for each in probe.sample(surveyed(probe).gpus).gpus
    ]

    # Without a sensor nothing is made up; an instance has those of its GPU.
    assert told == [("GPU-a", 61, 123.45), ("GPU-b", 0, None), ("MIG-1", 48, 70.0)]


def test_a_program_in_both_lists_is_counted_once(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    state.start("GPU-a", 10, GIB, kind="graphics")
    state.start("GPU-a", 10, GIB)
    probe.open()

    (reading,) = probe.read(surveyed(probe).gpus)

    assert isinstance(reading, GpuReading)
    assert reading.processes == (GpuProcess(10, GIB, "both"),)


def test_an_older_driver_counts_its_reserve_as_used(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a", memory=24 * GIB, reserved=GIB, used=2 * GIB, memory_v2=0)
    probe.open()

    (reading,) = probe.read(surveyed(probe).gpus)

    assert isinstance(reading, GpuReading)
    assert (reading.memory_used_bytes, reading.memory_free_bytes) == (3 * GIB, 21 * GIB)


def test_a_gpu_in_mig_mode_stands_as_its_instances(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    state.add_gpu("GPU-b", numa=1)
    state.add_mig("GPU-b", "MIG-x")
    state.add_mig("GPU-b", "MIG-y", memory=20 * GIB)
    probe.open()

    found = surveyed(probe)

    assert [(gpu.index, gpu.uuid, gpu.mig, gpu.parent_uuid) for gpu in found.gpus] == [
        (0, "GPU-a", False, None),
        (1, "MIG-x", True, "GPU-b"),
        (1, "MIG-y", True, "GPU-b"),
    ]
    assert found.gpus[2].memory_bytes == 20 * GIB
    assert (found.gpus[2].numa_node, found.gpus[2].pci_bus_id) == (1, "00000000:02:00.0")


def test_an_instance_is_read_like_a_gpu_but_has_no_utilisation(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a", ecc=2)
    state.add_mig("GPU-a", "MIG-x")
    state.start("MIG-x", 5, GIB)
    probe.open()

    (reading,) = probe.read(surveyed(probe).gpus)

    assert isinstance(reading, GpuReading)
    assert reading.utilisation is None
    assert reading.memory_free_bytes == 9 * GIB
    assert reading.processes == (GpuProcess(5, GIB, "compute"),)
    assert reading.ecc_uncorrected == 2


def test_mig_mode_without_instances_is_a_fault(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a", mig=1)
    probe.open()

    found = surveyed(probe)

    assert found == GpuSurvey((), (GpuFault(0, "GPU-a", "it is in MIG mode and has no instances"),))


def test_a_gpu_put_into_mig_mode_later_is_no_longer_whole(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    probe.open()
    gpus = surveyed(probe).gpus

    state.add_mig("GPU-a", "MIG-x")

    assert probe.read(gpus) == (GpuFault(0, "GPU-a", "it was put into MIG mode since we looked"),)
    assert [gpu.uuid for gpu in surveyed(probe).gpus] == ["MIG-x"]


def test_a_removed_instance_is_a_fault_and_the_other_is_not(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    state.add_mig("GPU-a", "MIG-x")
    state.add_mig("GPU-a", "MIG-y")
    probe.open()
    gpus = surveyed(probe).gpus

    state.remove("MIG-x")

    assert [type(answer) for answer in probe.read(gpus)] == [GpuFault, GpuReading]
