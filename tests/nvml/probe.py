"""Looks at the devices from a process of its own, started with the stand-in's library.

`ctypes` reads `LD_LIBRARY_PATH` when a process starts, so a test cannot look itself. It starts a
`Probe`, changes the world through `StandinState`, and asks what the devices package makes of it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from lineshaft_worker.devices.cgroup import SystemFiles
from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuReading, GpuSurvey, NvmlUnavailable
from lineshaft_worker.devices.inventory import Inventory, MachineInventory
from lineshaft_worker.devices.load import LoadSample, LoadSampler
from lineshaft_worker.devices.nvml import Nvml
from lineshaft_worker.devices.selection import Restrictions

ROOT = Path(__file__).resolve().parents[2]


class RefusedError(Exception):
    """The call in the other process raised; the text names the exception."""


class Probe:
    """One process that holds one `Nvml`, with a clock that only the test moves."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nvml.probe"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self) -> NvmlUnavailable | None:
        """Open NVML; `None` when it is open."""
        return self._ask("open")

    def close(self) -> None:
        self._ask("close")

    def advance(self, seconds: float) -> None:
        """Move the clock that paces new connections to the driver."""
        self._ask("advance", seconds)

    def survey(self) -> GpuSurvey | NvmlUnavailable:
        return self._ask("survey")

    def read(self, gpus: Sequence[GpuInfo]) -> tuple[GpuReading | GpuFault, ...]:
        return self._ask("read", tuple(gpus))

    def forget_xid(self, gpu: GpuInfo) -> None:
        self._ask("forget_xid", gpu)

    def sample(self, gpus: Sequence[GpuInfo]) -> LoadSample:
        return self._ask("sample", tuple(gpus))

    def detect(
        self,
        restrictions: Restrictions,
        *,
        environ: Mapping[str, str],
        files: SystemFiles,
    ) -> MachineInventory:
        return self._ask("detect", restrictions, dict(environ), files)

    def _ask(self, *request: object):
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        refusal, answer = pickle.load(self._process.stdout)
        if refusal is not None:
            raise RefusedError(refusal)
        return answer


class _Devices:
    """What the process does for its test."""

    def __init__(self) -> None:
        self.nvml: Nvml | NvmlUnavailable = NvmlUnavailable("not opened by the test")
        self.seconds = 0.0

    def open(self) -> NvmlUnavailable | None:
        self.nvml = Nvml.open(clock=lambda: self.seconds)
        return self.nvml if isinstance(self.nvml, NvmlUnavailable) else None

    def close(self) -> None:
        self._opened().close()

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def survey(self) -> GpuSurvey | NvmlUnavailable:
        return self._opened().survey()

    def read(self, gpus: tuple[GpuInfo, ...]) -> tuple[GpuReading | GpuFault, ...]:
        return self._opened().read(gpus)

    def forget_xid(self, gpu: GpuInfo) -> None:
        self._opened().forget_xid(gpu)

    def sample(self, gpus: tuple[GpuInfo, ...]) -> LoadSample:
        moment = datetime(2030, 1, 1, tzinfo=UTC)
        return LoadSampler(gpus, self.nvml, now=lambda: moment).sample()

    def detect(
        self, restrictions: Restrictions, environ: dict[str, str], files: SystemFiles
    ) -> MachineInventory:
        return Inventory(self.nvml, environ=environ, files=files).detect(restrictions)

    def _opened(self) -> Nvml:
        assert isinstance(self.nvml, Nvml), self.nvml
        return self.nvml


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    devices = _Devices()
    while True:
        try:
            name, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (None, getattr(devices, name)(*arguments))
        except Exception as error:  # noqa: BLE001 - the test is told
            answer = (f"{type(error).__name__}: {error}", None)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
