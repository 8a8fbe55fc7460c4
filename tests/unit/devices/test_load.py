from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lineshaft_worker.devices.cgroup import SystemFiles
from lineshaft_worker.devices.gpu import GpuInfo, NvmlUnavailable
from lineshaft_worker.devices.load import GpuLoad, LoadSampler

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
NO_DRIVER = NvmlUnavailable("no driver")


@dataclass
class Box:
    """A container of half a core and 1,000 bytes, and a clock."""

    folder: Path
    seconds: float = 0.0

    def used(self, *, cpu_s: float, memory_bytes: int = 0) -> None:
        (self.folder / "cpu.stat").write_text(f"usage_usec {int(cpu_s * 1e6)}\n")
        (self.folder / "memory.current").write_text(f"{memory_bytes}\n")

    def sampler(self) -> LoadSampler:
        files = SystemFiles(self.folder, self.folder / "own", self.folder / "boot")
        return LoadSampler(
            (), NO_DRIVER, files=files, clock=lambda: self.seconds, now=lambda: MOMENT
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "cpu.max").write_text("50000 100000")
    (tmp_path / "memory.max").write_text("1000")
    box = Box(tmp_path)
    box.used(cpu_s=0)
    return box


def test_usage_is_a_share_of_what_the_container_may_use(box: Box) -> None:
    sampler = box.sampler()

    box.seconds = 10
    box.used(cpu_s=2, memory_bytes=250)
    sample = sampler.sample()

    assert sample.cpu_usage == pytest.approx(0.4)
    assert sample.memory_usage == 0.25
    assert sample.timestamp == MOMENT


def test_usage_counts_since_the_sample_before(box: Box) -> None:
    sampler = box.sampler()
    box.seconds = 10
    box.used(cpu_s=5)
    assert sampler.sample().cpu_usage == 1.0

    box.seconds = 20

    assert sampler.sample().cpu_usage == 0.0


def test_two_samples_at_once_agree(box: Box) -> None:
    sampler = box.sampler()
    box.seconds = 10
    box.used(cpu_s=1)
    first = sampler.sample()

    box.used(cpu_s=9)
    box.seconds = 10.01

    assert sampler.sample().cpu_usage == first.cpu_usage


def test_a_counter_that_overshoots_is_still_a_share(box: Box) -> None:
    sampler = box.sampler()

    box.seconds = 1
    box.used(cpu_s=50, memory_bytes=5000)
    sample = sampler.sample()

    assert (sample.cpu_usage, sample.memory_usage) == (1.0, 1.0)


def test_a_limit_that_is_lifted_starts_a_new_count(box: Box) -> None:
    sampler = box.sampler()
    box.seconds = 10
    box.used(cpu_s=4)
    before = sampler.sample().cpu_usage

    (box.folder / "cpu.max").write_text("max 100000")
    box.seconds = 20

    assert sampler.sample().cpu_usage == before


def test_this_machine_without_limits_has_shares_too(tmp_path: Path) -> None:
    files = SystemFiles(tmp_path, tmp_path / "own", tmp_path / "boot")

    sample = LoadSampler((), NO_DRIVER, files=files).sample()

    assert 0 <= sample.cpu_usage <= 1
    assert 0 < sample.memory_usage <= 1
    assert sample.timestamp.tzinfo is UTC


def test_gpus_without_a_driver_are_faults(tmp_path: Path) -> None:
    gpu = GpuInfo(0, "GPU-a", "L4", 24, False, None, None, "")
    files = SystemFiles(tmp_path, tmp_path / "own", tmp_path / "boot")

    sample = LoadSampler((gpu,), NO_DRIVER, files=files).sample()

    assert sample.gpus == (GpuLoad("GPU-a", None, 24, 0, 0, (), "no driver"),)
