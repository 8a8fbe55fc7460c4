"""What an attempt has of its GPUs, and which CPUs are near them."""

from pathlib import Path

from lineshaft_worker.devices.affinity import cpus_near
from lineshaft_worker.devices.gpu import GpuInfo, GpuProcess
from lineshaft_worker.devices.gpu_memory import used_by
from lineshaft_worker.devices.load import GpuLoad
from lineshaft_worker.devices.xid import APPLICATION_XIDS

GIB = 1 << 30


def load(*processes: tuple[int, int | None], used: int = 0, fault: str | None = None) -> GpuLoad:
    listed = tuple(GpuProcess(pid, amount, "compute") for pid, amount in processes)
    total = used or sum(amount or 0 for _, amount in processes)
    return GpuLoad("GPU-a", 0.5, 80 * GIB, total, 80 * GIB - total, listed, fault)


def test_only_the_memory_of_its_own_processes_counts_on_a_shared_gpu() -> None:
    gpus = [load((10, 3 * GIB), (11, GIB), (99, 7 * GIB)), load((10, 2 * GIB))]

    assert used_by(gpus, {10, 11}, is_alone=False) == 6 * GIB


def test_hidden_processes_on_a_gpu_of_its_own_are_its_own() -> None:
    assert used_by([load(used=5 * GIB)], {10}, is_alone=True) == 5 * GIB
    assert used_by([load((10, None), used=4 * GIB)], {10}, is_alone=True) == 4 * GIB
    assert used_by([load()], {10}, is_alone=True) == 0


def test_nothing_is_said_of_a_shared_gpu_that_hides_its_processes() -> None:
    assert used_by([load(used=5 * GIB)], {10}, is_alone=False) is None
    assert used_by([load((10, GIB), fault="lost")], {10}, is_alone=True) is None


def gpu(uuid: str, node: int | None) -> GpuInfo:
    return GpuInfo(0, uuid, "test", GIB, False, None, node, "")


def nodes(tmp_path: Path) -> Path:
    for name, cpus in (("node0", "0-3,8"), ("node1", "4-7"), ("node2", "what")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(f"{cpus}\n")
    return tmp_path


def test_the_cpus_of_all_its_gpus_nodes_are_near_as_far_as_they_are_ours(tmp_path: Path) -> None:
    gpus, folder = [gpu("a", 0), gpu("b", 1), gpu("c", 0)], nodes(tmp_path)

    assert cpus_near(gpus, ["a", "c"], allowed=range(9), nodes=folder) == (0, 1, 2, 3, 8)
    assert cpus_near(gpus, ["a", "b"], allowed=[1, 5, 30], nodes=folder) == (1, 5)


def test_where_the_node_is_not_known_every_cpu_is_as_good(tmp_path: Path) -> None:
    gpus, folder = [gpu("a", 0), gpu("b", None), gpu("c", 2), gpu("d", 9)], nodes(tmp_path)

    for uuids in (["a", "b"], ["c"], ["d"], []):
        assert cpus_near(gpus, uuids, allowed=range(9), nodes=folder) == ()


def test_an_xid_after_which_nvidia_wants_a_reset_is_not_the_programs_own() -> None:
    # Immediate action RESET_GPU, RESTART_BM or a workflow in NVIDIA's catalogue.
    assert not APPLICATION_XIDS & {46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143}
    # RESTART_APP or IGNORE.
    assert {8, 13, 31, 43, 45, 63, 68, 69, 92, 94} <= APPLICATION_XIDS
