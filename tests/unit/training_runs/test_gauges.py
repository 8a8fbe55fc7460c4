"""What the coordinator's machine does, a minute back."""

import asyncio
import itertools
from types import SimpleNamespace

import psutil
import pytest
from pydantic import JsonValue

from lineshaft_coordinator.training_runs import gauges
from lineshaft_coordinator.training_runs.gauges import POINTS, Machine
from lineshaft_coordinator.training_runs.gpu_gauges import gpu_gauges, mean_busy


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose disk and network do more each time somebody looks."""
    looks = itertools.count(1)

    def disk() -> SimpleNamespace:
        look = next(looks)
        return SimpleNamespace(read_bytes=100 * look, write_bytes=200 * look)

    def network() -> SimpleNamespace:
        look = next(looks)
        return SimpleNamespace(bytes_recv=300 * look, bytes_sent=400 * look)

    monkeypatch.setattr(psutil, "disk_io_counters", disk)
    monkeypatch.setattr(psutil, "net_io_counters", network)
    monkeypatch.setattr(gauges, "INTERVAL_S", 0.0)


@pytest.mark.usefixtures("busy")
async def test_s000_30_the_history_follows_disk_and_network_for_a_minute() -> None:
    machine = Machine()
    assert len(machine.history()) == 1, "there is a point at once"

    for _ in range(POINTS + 5):  # Each lets it look once.
        await asyncio.sleep(0)
    points = machine.history()
    machine.close()

    assert len(points) == POINTS
    for name in ("disk_read_bytes", "disk_write_bytes", "network_rx_bytes", "network_tx_bytes"):
        told = [point[name] for point in points]
        assert told == sorted(set(told)), f"{name} grows with each point"


async def test_a_machine_without_a_disk_of_its_own_says_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    machine = Machine()

    now = machine.now()
    machine.close()

    assert (now["disk_read_bytes"], now["disk_write_bytes"]) == (0, 0)


def test_s000_30_memory_of_gpus_is_in_mib_and_busy_in_per_cent() -> None:
    gib = 1024**3
    gpu: dict[str, JsonValue] = {"uuid": "GPU-1", "name": "A100", "memory_bytes": 80 * gib}
    load: dict[str, JsonValue] = {
        "gpu_usage": [0.255, 0.0],
        "gpu_memory_used_bytes": [3 * gib, 0],
        "gpu_temperature_c": [61, None],
        "gpu_power_w": [123.45, None],
    }
    idle: dict[str, JsonValue] = {**gpu, "uuid": "GPU-2", "jobs": 0}

    told = gpu_gauges([{"gpus": [{**gpu, "jobs": 1}, idle], "load": load}, {"gpus": [idle]}])

    # A worker that has not said how busy it is: nothing is made up.
    unknown = {"id": "GPU-2", "name": "A100", "memory_total_mb": 81920, "jobs": 0}
    assert told == [
        {
            "id": "GPU-1",
            "name": "A100",
            "utilization_percent": 25.5,
            "memory_used_mb": 3072,
            "memory_total_mb": 81920,
            "temperature_c": 61,
            "power_watts": 123.45,
            "jobs": 1,
        },
        {**unknown, "utilization_percent": 0.0, "memory_used_mb": 0},
        unknown,
    ]


@pytest.mark.usefixtures("busy")
async def test_s000_30_the_history_tells_how_busy_gpus_were() -> None:
    gpu: dict[str, JsonValue] = {"uuid": "GPU-1", "name": "A", "memory_bytes": 0, "jobs": 0}
    worker: dict[str, JsonValue] = {"gpus": [gpu, gpu], "load": {"gpu_usage": [0.5, 0.75]}}
    seen = [[], [worker], [worker, {"gpus": [gpu]}]]
    looks = iter(seen)
    machine = Machine(lambda: mean_busy(next(looks, [])))
    machine.history()

    for _ in seen:
        await asyncio.sleep(0)
    points = machine.history()
    machine.close()

    assert [point["gpu_utilization"] for point in points][:3] == [0.0, 62.5, 62.5]
