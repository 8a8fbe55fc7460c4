from __future__ import annotations

from pathlib import Path

import pytest

from lineshaft_worker.devices.cgroup import (
    CgroupLimits,
    Limited,
    SystemFiles,
    cpu_used_s,
    memory_used_bytes,
)


@pytest.fixture
def files(tmp_path: Path) -> SystemFiles:
    files = SystemFiles(tmp_path / "cgroup", tmp_path / "own_cgroup", tmp_path / "boot_id")
    (files.cgroup_root / "slice" / "unit").mkdir(parents=True)
    files.own_cgroup.write_text("1:memory:/old\n0::/slice/unit\n")
    return files


def test_unlimited_groups_leave_everything(files: SystemFiles) -> None:
    (files.cgroup_root / "slice" / "cpu.max").write_text("max 100000\n")
    (files.cgroup_root / "slice" / "memory.max").write_text("max\n")

    assert CgroupLimits.read(files) == CgroupLimits(None, None)


def test_the_tightest_limit_on_the_way_up_counts(files: SystemFiles) -> None:
    upper, own = files.cgroup_root / "slice", files.cgroup_root / "slice" / "unit"
    (upper / "cpu.max").write_text("150000 100000\n")
    (own / "cpu.max").write_text("400000 100000\n")
    (upper / "memory.max").write_text("3000\n")
    (own / "memory.max").write_text("2000\n")

    assert CgroupLimits.read(files) == CgroupLimits(Limited(1.5, upper), Limited(2000, own))


def test_a_container_sees_its_own_group_as_the_root(files: SystemFiles) -> None:
    files.own_cgroup.write_text("0::/\n")
    (files.cgroup_root / "memory.max").write_text("1000\n")

    assert CgroupLimits.read(files).memory_bytes == Limited(1000, files.cgroup_root)


def test_a_path_of_the_host_that_is_not_mounted_here_is_passed_over(files: SystemFiles) -> None:
    files.own_cgroup.write_text("0::/../host/../unit\n")
    (files.cgroup_root / "memory.max").write_text("1000\n")

    assert CgroupLimits.read(files).memory_bytes == Limited(1000, files.cgroup_root)


@pytest.mark.parametrize("text", ["", "x y", "1", "1 0", "-5 100", "max"])
def test_a_limit_that_makes_no_sense_is_no_limit(files: SystemFiles, text: str) -> None:
    (files.cgroup_root / "cpu.max").write_text(text)

    assert CgroupLimits.read(files).cores is None


def test_no_control_groups_are_no_limits(tmp_path: Path) -> None:
    nowhere = SystemFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c")

    assert CgroupLimits.read(nowhere) == CgroupLimits(None, None)


def test_cache_that_can_be_given_back_is_not_used_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\n")

    assert memory_used_bytes(tmp_path) == 700


def test_what_a_group_does_not_tell_is_none(tmp_path: Path) -> None:
    assert (memory_used_bytes(tmp_path), cpu_used_s(tmp_path)) == (None, None)
