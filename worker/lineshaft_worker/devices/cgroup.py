"""What a container or a service unit leaves us of the machine: control groups, version 2.

A limit may sit on our own group or on any group above it, so the whole way up is read and the
smallest wins. Where the files are missing (version 1, no Linux control groups) there is no limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SystemFiles:
    """Where the kernel tells about the machine; another folder in tests."""

    cgroup_root: Path = Path("/sys/fs/cgroup")
    own_cgroup: Path = Path("/proc/self/cgroup")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Limited:
    """The tightest limit of one kind, and the group that has it."""

    amount: float
    folder: Path


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The limits of the groups we are in; `None`: not limited."""

    cores: Limited | None
    memory_bytes: Limited | None

    @classmethod
    def read(cls, files: SystemFiles) -> CgroupLimits:
        """Read the limits as they are now; they can be changed under a running process."""
        folders = _folders(files)
        return cls(
            _tightest([(_cores(folder), folder) for folder in folders]),
            _tightest([(_number(folder / "memory.max"), folder) for folder in folders]),
        )


def memory_used_bytes(folder: Path) -> int | None:
    """Return what the group holds and cannot give back at once; file cache is not counted."""
    current = _number(folder / "memory.current")
    if current is None:
        return None
    cache = _field(folder / "memory.stat", "inactive_file") or 0
    return max(0, int(current) - cache)


def cpu_used_s(folder: Path) -> float | None:
    """Return the processor time the group has used so far, in seconds."""
    used_us = _field(folder / "cpu.stat", "usage_usec")
    return None if used_us is None else used_us / 1e6


def _folders(files: SystemFiles) -> list[Path]:
    """Return our group's folder and all above it, down to the root of what we can see."""
    try:
        lines = files.own_cgroup.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = files.cgroup_root
    folders = [folder]
    for part in own.split("/"):
        # A container without a namespace of its own sees the host's path, most of it not mounted.
        if part in ("", "..") or not (folder / part).is_dir():
            continue
        folder = folder / part
        folders.append(folder)
    return folders


def _cores(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _number(file: Path) -> float | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _field(file: Path, name: str) -> int | None:
    for line in _text(file).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def _tightest(found: list[tuple[float | None, Path]]) -> Limited | None:
    limits = [Limited(amount, folder) for amount, folder in found if amount is not None]
    return min(limits, key=lambda limited: limited.amount, default=None)
