"""A stand-in for NVIDIA's library: builds it, and writes the world it shows.

Use it from any test: `build_standin(folder)` compiles the library, `StandinState(file)` describes
the machine, and `environment(library, state)` is what a process needs to see it. The file is read
again on every call, so a test may change the machine under a running daemon.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30

DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
UNKNOWN = 999


class NoCompilerError(Exception):
    """There is no C compiler on this machine, so the stand-in cannot be built."""


def build_standin(folder: Path) -> Path:
    """Compile the stand-in.

    Args:
        folder: Where to put `libnvidia-ml.so.1`; made if missing.

    Returns:
        The folder to put first on `LD_LIBRARY_PATH` before the process that looks starts.

    Raises:
        NoCompilerError: Neither `cc`, `gcc` nor `clang` is on the path.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompilerError("no C compiler (cc, gcc, clang) to build the stand-in NVML")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True, timeout=60)
    return folder


def environment(library: Path, state: StandinState) -> dict[str, str]:
    """Return the variables a process needs to see the stand-in instead of a driver."""
    return {"LD_LIBRARY_PATH": str(library), "LINESHAFT_FAKE_NVML": str(state.path)}


@dataclass
class StandinGpu:
    """One GPU or MIG instance; bytes, per cent, and NVML's error codes (0: none)."""

    uuid: str
    name: str = "NVIDIA A100-SXM4-80GB"
    memory: int = 80 * GIB
    reserved: int = 0
    used: int = 0
    util: int = 0
    temp: int = -1
    """Degrees Celsius; negative: it has no such sensor, as for power."""
    power: int = -1
    """Milliwatts."""
    error: int = 0
    handle_error: int = 0
    ecc: int = 0
    xid: int = 0
    xid_number: int = 0
    numa: int = -1
    bus: str = ""
    mig: int = 0
    memory_v2: int = 1
    parent: str | None = None


@dataclass
class StandinProcess:
    """One process on a GPU; `used=None` is memory the driver does not tell."""

    on: str
    pid: int
    used: int | None
    kind: Literal["compute", "graphics"] = "compute"


@dataclass
class StandinState:
    """The machine the stand-in shows. Every method writes the file at once."""

    path: Path
    gpus: list[StandinGpu] = field(default_factory=list[StandinGpu])
    processes: list[StandinProcess] = field(default_factory=list[StandinProcess])
    driver: str = "550.54.15"
    generation: int = 1
    error: int = 0
    is_hanging: bool = False

    def __post_init__(self) -> None:
        self.write()

    def add_gpu(self, uuid: str | None = None, **values: object) -> StandinGpu:
        """Add a GPU; its UUID and bus id come from its place unless given."""
        place = sum(gpu.parent is None for gpu in self.gpus)
        gpu = StandinGpu(uuid or f"GPU-{place:08x}-0000-0000-0000-000000000000")
        gpu.bus = f"00000000:{place + 1:02X}:00.0"
        self.gpus.append(gpu)
        self.change(gpu.uuid, **values)
        return gpu

    def add_mig(self, parent: str, uuid: str, **values: object) -> StandinGpu:
        """Cut an instance from a GPU, which is put into MIG mode."""
        self.gpu(parent).mig = 1
        gpu = StandinGpu(uuid, name="NVIDIA A100-SXM4-80GB MIG 1g.10gb", memory=10 * GIB)
        gpu.parent = parent
        self.gpus.append(gpu)
        self.change(uuid, **values)
        return gpu

    def gpu(self, uuid: str) -> StandinGpu:
        """Return a GPU or instance by its UUID."""
        return next(gpu for gpu in self.gpus if gpu.uuid == uuid)

    def change(self, uuid: str, **values: object) -> None:
        """Set fields of a GPU, for example `error=GPU_IS_LOST` or `used=3 * GIB`."""
        gpu = self.gpu(uuid)
        for name, value in values.items():
            if not hasattr(gpu, name):
                raise AttributeError(f"a stand-in GPU has no {name!r}")
            setattr(gpu, name, value)
        self.write()

    def remove(self, uuid: str) -> None:
        """Take a GPU away, with its instances and processes."""
        self.gpus = [gpu for gpu in self.gpus if uuid not in (gpu.uuid, gpu.parent)]
        self.processes = [process for process in self.processes if process.on != uuid]
        self.write()

    def start(
        self,
        uuid: str,
        pid: int,
        used: int | None,
        *,
        kind: Literal["compute", "graphics"] = "compute",
    ) -> None:
        """Let a process take memory on a GPU; the GPU's used memory grows with it."""
        self.processes.append(StandinProcess(uuid, pid, used, kind))
        self.change(uuid, used=self.gpu(uuid).used + (used or 0))

    def end(self, pid: int, *, keep_memory: bool = False) -> None:
        """End a process everywhere; with `keep_memory` the GPU does not get its memory back."""
        for process in [process for process in self.processes if process.pid == pid]:
            self.processes.remove(process)
            if not keep_memory:
                self.gpu(process.on).used -= process.used or 0
        self.write()

    def raise_xid(self, uuid: str, code: int) -> None:
        """Let the driver report an Xid event."""
        self.change(uuid, xid=code, xid_number=self.gpu(uuid).xid_number + 1)

    def unload_driver(self) -> None:
        """Make every call and every initialisation answer that no driver is loaded."""
        self.error = DRIVER_NOT_LOADED
        self.write()

    def hang(self, *, is_hanging: bool = True) -> None:
        """Let no call return, or let those return again that do not."""
        self.is_hanging = is_hanging
        self.write()

    def load_driver(self) -> None:
        """Load the driver (again): calls of a library initialised before answer unknown."""
        self.error = 0
        self.generation += 1
        self.write()

    def write(self) -> None:
        """Write the whole file in one step, so that a reader never sees half of it."""
        machine = {
            "driver": self.driver,
            "generation": self.generation,
            "error": self.error,
            "hang": int(self.is_hanging),
        }
        lines = [
            _line("machine", machine),
            *(_line("mig" if gpu.parent else "gpu", vars(gpu)) for gpu in self.gpus),
            *(_line("process", vars(process)) for process in self.processes),
        ]
        draft = self.path.with_suffix(f".{os.getpid()}.draft")
        draft.write_text("".join(lines), encoding="utf-8")
        draft.replace(self.path)


def _line(kind: str, values: Mapping[str, object]) -> str:
    fields = [f"{name}={value}" for name, value in values.items() if value is not None]
    return "\t".join([kind, *fields]) + "\n"
