"""Drivers that go and come back, and GPUs that answer but must not be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.nvml.probe import Probe
from tests.nvml.standin import GPU_IS_LOST, UNKNOWN, StandinState

from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuReading, NvmlUnavailable

MEMORY_PAGE_FAULT = 31
FELL_OFF_THE_BUS = 79


def opened(probe: Probe) -> tuple[GpuInfo, ...]:
    assert probe.open() is None
    survey = probe.survey()
    assert not isinstance(survey, NvmlUnavailable)
    return survey.gpus


def kinds(probe: Probe, gpus: Sequence[GpuInfo]) -> list[type[GpuReading | GpuFault]]:
    return [type(answer) for answer in probe.read(gpus)]


def faults(probe: Probe, gpus: Sequence[GpuInfo]) -> list[str | None]:
    return [gpu.fault for gpu in probe.sample(gpus).gpus]


def test_no_library_is_a_reason_and_not_an_exception(
    tmp_path: Path, start_probe: Callable[[dict[str, str]], Probe]
) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # Hides the machine's own, and cannot be loaded.

    reason = start_probe({"LD_LIBRARY_PATH": str(tmp_path)}).open()

    assert reason == NvmlUnavailable("NVIDIA's library libnvidia-ml.so.1 is not installed")


def test_no_driver_is_a_reason_and_a_later_try_finds_it(probe: Probe, state: StandinState) -> None:
    state.add_gpu()
    state.unload_driver()

    assert probe.open() == NvmlUnavailable("no NVIDIA driver is loaded")

    state.load_driver()
    assert len(opened(probe)) == 1


def test_a_driver_that_is_unloaded_and_loaded_again_is_found_again(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu()
    state.add_gpu()
    gpus = opened(probe)

    state.unload_driver()
    assert faults(probe, gpus) == ["no NVIDIA driver is loaded"] * 2
    probe.advance(1)
    assert faults(probe, gpus) == ["no NVIDIA driver is loaded"] * 2

    state.load_driver()
    probe.advance(2)
    assert faults(probe, gpus) == [None, None]


def test_a_driver_reloaded_between_two_looks_costs_one_of_them(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu()
    gpus = opened(probe)
    assert kinds(probe, gpus) == [GpuReading]

    state.load_driver()

    assert kinds(probe, gpus) == [GpuFault]
    probe.advance(1)
    assert kinds(probe, gpus) == [GpuReading]


def test_a_survey_while_the_driver_is_away_says_so_and_heals(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu()
    gpus = opened(probe)

    state.unload_driver()
    assert probe.survey() == NvmlUnavailable("no NVIDIA driver is loaded")

    state.load_driver()
    probe.advance(1)
    assert kinds(probe, gpus) == [GpuReading]


def test_new_connections_come_further_apart_up_to_a_minute(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu()
    gpus = opened(probe)
    state.unload_driver()
    for _ in range(12):
        probe.read(gpus)
        probe.advance(60)
    probe.read(gpus)  # The last attempt in vain: the next one is a minute away.

    state.load_driver()

    probe.advance(59)
    assert kinds(probe, gpus) == [GpuFault]
    probe.advance(1)
    assert kinds(probe, gpus) == [GpuReading]


def test_a_driver_that_came_back_is_soon_found_again_the_next_time(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu()
    gpus = opened(probe)
    state.unload_driver()
    for _ in range(12):
        probe.read(gpus)
        probe.advance(60)
    state.load_driver()
    assert kinds(probe, gpus) == [GpuReading]

    state.load_driver()
    assert kinds(probe, gpus) == [GpuFault]

    probe.advance(1)
    assert kinds(probe, gpus) == [GpuReading]


def test_one_lost_gpu_does_not_interrupt_the_others_while_we_try_again(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    state.add_gpu("GPU-b")
    gpus = opened(probe)

    state.change("GPU-b", error=GPU_IS_LOST)

    for _ in range(5):
        assert kinds(probe, gpus) == [GpuReading, GpuFault]
        probe.advance(1)
    state.change("GPU-b", error=0)
    probe.advance(60)
    assert kinds(probe, gpus) == [GpuReading, GpuReading]


def test_uncorrected_memory_errors_are_a_fault_until_the_gpu_is_reset(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)

    state.change("GPU-a", ecc=3)
    (fault,) = faults(probe, gpus)
    assert fault is not None
    assert fault.startswith("3 uncorrected memory errors")

    state.change("GPU-a", ecc=0)
    assert faults(probe, gpus) == [None]


def test_a_serious_xid_is_a_fault_of_that_gpu_until_a_person_forgives_it(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    state.add_gpu("GPU-b")
    gpus = opened(probe)

    state.raise_xid("GPU-b", FELL_OFF_THE_BUS)

    for _ in range(2):
        first, second = faults(probe, gpus)
        assert first is None
        assert second is not None
        assert "Xid 79" in second
    probe.forget_xid(gpus[1])
    assert faults(probe, gpus) == [None, None]


def test_a_programs_own_xid_is_no_fault_of_the_gpu(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)

    state.raise_xid("GPU-a", MEMORY_PAGE_FAULT)

    assert faults(probe, gpus) == [None]


def test_an_xid_counts_for_every_instance_of_the_gpu(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    state.add_mig("GPU-a", "MIG-x")
    state.add_mig("GPU-a", "MIG-y")
    gpus = opened(probe)

    state.raise_xid("GPU-a", FELL_OFF_THE_BUS)

    assert [fault is not None for fault in faults(probe, gpus)] == [True, True]


def test_an_xid_outlives_a_new_connection_that_another_gpu_needed(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    state.add_gpu("GPU-b")
    gpus = opened(probe)
    state.raise_xid("GPU-a", FELL_OFF_THE_BUS)
    faults(probe, gpus)

    state.change("GPU-b", error=GPU_IS_LOST)
    faults(probe, gpus)
    probe.advance(1)
    faults(probe, gpus)
    state.change("GPU-b", error=0)
    probe.advance(2)

    first, second = faults(probe, gpus)
    assert first is not None
    assert "Xid 79" in first
    assert second is None


def test_a_gpu_that_was_lost_and_is_back_was_reset_so_its_xid_is_forgotten(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)
    state.raise_xid("GPU-a", FELL_OFF_THE_BUS)
    faults(probe, gpus)

    state.change("GPU-a", error=GPU_IS_LOST)
    faults(probe, gpus)
    state.change("GPU-a", error=0)
    probe.advance(1)

    assert faults(probe, gpus) == [None]


def test_a_driver_that_was_away_has_reset_the_gpus_though_nobody_read_them_meanwhile(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)
    state.raise_xid("GPU-a", FELL_OFF_THE_BUS)
    faults(probe, gpus)

    state.unload_driver()
    probe.survey()
    state.load_driver()
    probe.advance(1)

    assert faults(probe, gpus) == [None]


def test_a_container_that_lost_its_devices_does_not_lose_what_a_gpu_did(
    probe: Probe, state: StandinState
) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)
    state.raise_xid("GPU-a", FELL_OFF_THE_BUS)
    faults(probe, gpus)

    state.change("GPU-a", error=UNKNOWN)
    faults(probe, gpus)
    state.change("GPU-a", error=0)
    probe.advance(1)

    (fault,) = faults(probe, gpus)
    assert fault is not None
    assert "Xid 79" in fault


def test_an_xid_is_seen_after_a_new_connection_too(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)
    state.unload_driver()
    faults(probe, gpus)
    state.load_driver()
    probe.advance(1)
    assert faults(probe, gpus) == [None]

    state.raise_xid("GPU-a", FELL_OFF_THE_BUS)

    assert faults(probe, gpus) != [None]


def test_a_closed_library_gives_reasons(probe: Probe, state: StandinState) -> None:
    state.add_gpu("GPU-a")
    gpus = opened(probe)

    probe.close()

    assert probe.read(gpus) == (GpuFault(0, "GPU-a", "it is closed"),)
    assert probe.survey() == NvmlUnavailable("it is closed")
