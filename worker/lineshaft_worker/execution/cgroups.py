"""A control group (version 2) for each runner, where a part of the tree was delegated to us.

Theory. A group is killed whole by the kernel, whatever its processes do, and can be limited in
memory and number of processes. Two things are asked for. *A place*: a folder of cgroupfs in which
we may make groups. As an ordinary user that is any that we can write to, for somebody gave it to
us; as root everything can be written to, so systemd's mark of delegation must be on it, or the
operator names it. *Controllers*: limits exist in our groups only if the place enables them, which
the kernel forbids while processes are in the place itself. We do not move ourselves out of the way:
systemd could then not start the next daemon beside runners that live on. It does so itself
(`DelegateSubgroup=daemon`), and then the place is the folder above ours. Without that, groups are
made and killed, and memory is watched as without groups.
"""

import contextlib
import os
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from lineshaft_worker.devices.cgroup import SystemFiles

DAEMONS_GROUP = "daemon"
"""Name of the subgroup that a service manager puts the daemon into, away from the runners'."""
PIDS_MAX = 16_384
"""Processes and threads of one runner with all it starts."""
CONTROLLERS = ("memory", "pids")


PROCESS_ISOLATION: dict[str, JsonValue] = {"kind": "process", "limits": []}
"""What is told where runners have no groups: a session each, swept by its shim."""


class Cgroups:
    """Makes, limits and removes groups in one place.

    Args:
        root: The place: a folder of cgroup version 2 that is ours.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        if not _processes(root):
            there = _read(root / "cgroup.subtree_control").split()
            for name in set(CONTROLLERS).difference(there):
                with contextlib.suppress(OSError):  # It is not given to us, or not compiled in.
                    _write(root / "cgroup.subtree_control", f"+{name}")
        enabled = _read(root / "cgroup.subtree_control").split()
        self.controllers = tuple(name for name in CONTROLLERS if name in enabled)
        """What can be limited in our groups."""

    @classmethod
    def find(cls, files: SystemFiles, *, is_root: bool) -> Self | None:
        """Return the part of the tree that was delegated to this process, if there is one."""
        mounts = (files.cgroup_root, files.cgroup_root / "unified")
        mount = next((path for path in mounts if (path / "cgroup.controllers").exists()), None)
        own = [line[3:] for line in _read(files.own_cgroup).splitlines() if line.startswith("0::")]
        if mount is None or not own:
            return None
        place = mount / own[0].strip("/")
        if place.name == DAEMONS_GROUP and is_delegated(place.parent, is_root=is_root):
            place = place.parent
        elif not is_delegated(place, is_root=is_root):
            return None
        return cls(place) if is_usable(place) else None

    @property
    def limits_memory(self) -> bool:
        """Whether the kernel keeps a runner within its memory."""
        return "memory" in self.controllers

    def make(self, runner_id: str) -> Path:
        """Make the group of a new runner. Raises OSError."""
        folder = self.folder(runner_id)
        folder.mkdir()
        # All of an attempt ends with the first of its processes that has to: half a job is none.
        facts = {"memory.oom.group": "1"} if self.limits_memory else {}
        if "pids" in self.controllers:
            facts["pids.max"] = str(PIDS_MAX)
        for name, text in facts.items():
            with contextlib.suppress(OSError):
                _write(folder / name, text)
        return folder

    def folder(self, runner_id: str) -> Path:
        """Where the group of a runner is, or would be."""
        return self._root / f"runner-{runner_id}"

    def limit_memory(self, runner_id: str, memory_bytes: int | None) -> None:
        """Have the kernel keep a runner within its memory; None takes the limit away."""
        text = "max" if memory_bytes is None else str(memory_bytes)
        with contextlib.suppress(OSError):  # The runner may be gone, and its group with it.
            _write(self.folder(runner_id) / "memory.max", text)

    def kill(self, runner_id: str) -> None:
        """End all processes in a runner's group."""
        with contextlib.suppress(OSError):  # Linux before 5.14; or the group is gone.
            _write(self.folder(runner_id) / "cgroup.kill", "1")

    def remove(self, runner_id: str) -> None:
        """Remove the group of a runner that is gone, if its shim could not."""
        with contextlib.suppress(OSError):
            self.folder(runner_id).rmdir()

    def facts(self) -> dict[str, JsonValue]:
        """Return what is told of the isolation of attempts here."""
        return {"kind": "cgroup", "limits": [*self.controllers]}


def is_delegated(folder: Path, *, is_root: bool) -> bool:
    """Say whether somebody meant this part of the tree to be divided by us."""
    if not os.access(folder, os.W_OK) or not os.access(folder / "cgroup.procs", os.W_OK):
        return False
    if not is_root:
        return True
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def is_usable(folder: Path) -> bool:
    """Say whether a group can be made there."""
    probe = folder / f"probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:  # Mounted read-only, as in most containers.
        return False
    return True


def _processes(folder: Path) -> bool:
    return bool(_read(folder / "cgroup.procs").strip())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    # Never makes a file: what the kernel does not offer is not there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
