"""What a worker finds on its machine, with restrictions of operators, CUDA and containers."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from tests.nvml.probe import Probe, RefusedError
from tests.nvml.standin import GIB, GPU_IS_LOST, StandinState

from lineshaft_worker.devices.cgroup import SystemFiles
from lineshaft_worker.devices.inventory import MachineInventory
from lineshaft_worker.devices.selection import Restrictions


@pytest.fixture
def files(tmp_path: Path) -> SystemFiles:
    files = SystemFiles(tmp_path / "cgroup", tmp_path / "own_cgroup", tmp_path / "boot_id")
    (files.cgroup_root / "box").mkdir(parents=True)
    files.own_cgroup.write_text("0::/box\n")
    files.boot_id.write_text("5f3c\n")
    return files


def detected(
    probe: Probe,
    files: SystemFiles,
    restrictions: Restrictions | None = None,
    **environ: str,
) -> MachineInventory:
    probe.open()
    return probe.detect(restrictions or Restrictions(), environ=environ, files=files)


def test_a_machine_without_a_driver_is_a_cpu_worker_that_says_why(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    state.unload_driver()

    found = detected(probe, files)

    assert (found.gpus, found.gpu_faults, found.tags) == ((), (), ("cpu",))
    assert found.no_gpu_reason == "no NVIDIA driver is loaded"
    assert found.ram_bytes == psutil.virtual_memory().total
    assert found.boot_id == "5f3c"
    assert found.host


def test_tags_tell_a_gpu_and_each_of_the_operators_once(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    state.add_gpu()

    found = detected(probe, files, Restrictions(tags=("big", "cpu", "big")))

    assert found.tags == ("gpu", "cpu", "big")


def test_a_containers_limits_are_what_there_is(probe: Probe, files: SystemFiles) -> None:
    (files.cgroup_root / "box" / "cpu.max").write_text("50000 100000\n")
    (files.cgroup_root / "box" / "memory.max").write_text(f"{GIB}\n")

    found = detected(probe, files)

    assert (found.cpu_cores, found.ram_bytes) == (0.5, GIB)


def test_restrictions_lower_what_there_is(probe: Probe, files: SystemFiles) -> None:
    found = detected(probe, files, Restrictions(cpus=0.25, memory_bytes=GIB // 2))

    assert (found.cpu_cores, found.ram_bytes) == (0.25, GIB // 2)


@pytest.mark.parametrize(
    ("restrictions", "words"),
    [
        (Restrictions(cpus=1), ["1 cores", "0.5 cores"]),
        (Restrictions(cpus=0), ["0 cores"]),
        (Restrictions(memory_bytes=2 * GIB), ["2147483648 bytes", "1073741824 bytes"]),
        (Restrictions(gpus=2), ["2 GPUs", "NVIDIA L4 (GPU-a)"]),
        (Restrictions(gpus=[1]), ["GPU 1", "NVIDIA L4 (GPU-a)"]),
        (Restrictions(gpus=["GPU-b"]), ["GPU GPU-b", "NVIDIA L4 (GPU-a)"]),
    ],
)
def test_asking_for_more_than_there_is_names_what_there_is(
    probe: Probe,
    state: StandinState,
    files: SystemFiles,
    restrictions: Restrictions,
    words: list[str],
) -> None:
    state.add_gpu("GPU-a", name="NVIDIA L4")
    (files.cgroup_root / "box" / "cpu.max").write_text("50000 100000\n")
    (files.cgroup_root / "box" / "memory.max").write_text(f"{GIB}\n")

    with pytest.raises(RefusedError, match=r"^UnavailableDeviceError: ") as refused:
        detected(probe, files, restrictions)

    assert [word for word in words if word not in str(refused.value)] == []


def test_gpus_wanted_without_a_driver_are_refused_with_its_reason(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    state.unload_driver()

    with pytest.raises(RefusedError, match=r"UnavailableDeviceError: .*no NVIDIA driver is loaded"):
        detected(probe, files, Restrictions(gpus=1))


def test_no_gpus_wanted_needs_no_driver(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    state.unload_driver()

    found = detected(probe, files, Restrictions(gpus=0))

    assert (found.gpus, found.no_gpu_reason, found.tags) == ((), None, ("cpu",))


def test_cuda_visible_devices_is_the_outer_limit(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    for name in ("GPU-a", "GPU-b", "GPU-c"):
        state.add_gpu(name)

    found = detected(probe, files, CUDA_VISIBLE_DEVICES="2,GPU-a")

    assert [gpu.uuid for gpu in found.gpus] == ["GPU-c", "GPU-a"]
    with pytest.raises(RefusedError, match=r"UnavailableDeviceError: .*GPU 1"):
        detected(probe, files, Restrictions(gpus=[1]), CUDA_VISIBLE_DEVICES="2,GPU-a")


def test_a_failing_gpu_is_ours_but_good_ones_are_taken_first(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    state.add_gpu("GPU-a", handle_error=GPU_IS_LOST)
    state.add_gpu("GPU-b")

    one = detected(probe, files, Restrictions(gpus=1))
    both = detected(probe, files, Restrictions(gpus=2))

    assert ([gpu.uuid for gpu in one.gpus], one.gpu_faults) == (["GPU-b"], ())
    assert [gpu.uuid for gpu in both.gpus] == ["GPU-b"]
    assert [fault.index for fault in both.gpu_faults] == [0]


def test_a_gpu_that_another_program_uses_shows_its_process(
    probe: Probe, state: StandinState, files: SystemFiles
) -> None:
    state.add_gpu("GPU-a", util=90)
    state.start("GPU-a", 4242, 7 * GIB)
    gpus = detected(probe, files).gpus

    (load,) = probe.sample(gpus).gpus

    assert (load.utilisation, load.memory_used_bytes, load.fault) == (0.9, 7 * GIB, None)
    assert [(p.pid, p.used_bytes) for p in load.processes] == [(4242, 7 * GIB)]
