"""Where groups are made, and what is written to them; on a folder shaped like cgroupfs."""

import os
from pathlib import Path

import pytest

from lineshaft_worker.devices.cgroup import SystemFiles
from lineshaft_worker.execution.cgroups import PIDS_MAX, Cgroups

FILES = ("cgroup.procs", "cgroup.subtree_control", "cgroup.controllers")


@pytest.fixture
def files(tmp_path: Path) -> SystemFiles:
    """An ordinary user's process in a service that was delegated with a subgroup."""
    files = SystemFiles(tmp_path / "cgroup", tmp_path / "own_cgroup", tmp_path / "boot_id")
    service = files.cgroup_root / "system.slice" / "worker.service"
    (service / "daemon").mkdir(parents=True)
    for folder in (files.cgroup_root, service, service / "daemon"):
        for name in FILES:
            (folder / name).write_text("")
    (service / "daemon" / "cgroup.procs").write_text("4711\n")
    (service / "cgroup.subtree_control").write_text("memory pids\n")
    files.own_cgroup.write_text("1:memory:/old\n0::/system.slice/worker.service/daemon\n")
    return files


def service_of(files: SystemFiles) -> Path:
    return files.cgroup_root / "system.slice" / "worker.service"


def given(folder: Path, *names: str) -> None:
    """Be the kernel, which puts files into a group."""
    for name in names:
        (folder / name).write_text("max")


def test_a_daemon_in_its_subgroup_makes_groups_beside_itself(files: SystemFiles) -> None:
    groups = Cgroups.find(files, is_root=False)

    assert groups is not None
    assert groups.folder("x") == service_of(files) / "runner-x"
    assert groups.controllers == ("memory", "pids")
    assert groups.facts() == {"kind": "cgroup", "limits": ["memory", "pids"]}


def test_without_a_subgroup_nothing_is_limited(files: SystemFiles) -> None:
    files.own_cgroup.write_text("0::/system.slice/worker.service\n")
    control = service_of(files) / "cgroup.subtree_control"
    control.write_text("")
    (service_of(files) / "cgroup.procs").write_text("4711\n")

    groups = Cgroups.find(files, is_root=False)

    assert groups is not None
    assert groups.folder("x").parent == service_of(files)
    assert not groups.limits_memory
    assert control.read_text() == "", "with processes in it no controller may be enabled"


def test_for_root_what_can_be_written_to_is_not_yet_delegated(files: SystemFiles) -> None:
    assert Cgroups.find(files, is_root=True) is None

    try:
        os.setxattr(service_of(files), "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system has no attributes")

    assert Cgroups.find(files, is_root=True) is not None


def test_a_machine_without_version_2_has_none(tmp_path: Path) -> None:
    files = SystemFiles(tmp_path, tmp_path / "own_cgroup", tmp_path / "boot_id")
    files.own_cgroup.write_text("1:memory:/old\n")

    assert Cgroups.find(files, is_root=False) is None


def test_limits_are_written_where_the_kernel_has_them(files: SystemFiles) -> None:
    groups = Cgroups.find(files, is_root=False)
    assert groups is not None
    folder = groups.folder("x")
    made: list[Path] = []
    original = Path.mkdir

    def mkdir(path: Path) -> None:
        original(path)
        given(path, "memory.max", "memory.oom.group", "pids.max", "cgroup.kill")
        made.append(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        groups.make("x")
    groups.limit_memory("x", 10**9)
    limited = (folder / "memory.max").read_text()
    groups.kill("x")

    assert made == [folder]
    assert limited.startswith("1000000000")
    assert (folder / "pids.max").read_text().startswith(str(PIDS_MAX))
    assert (folder / "memory.oom.group").read_text().startswith("1")
    assert (folder / "cgroup.kill").read_text().startswith("1")
