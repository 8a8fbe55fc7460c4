"""The machine under the worker: what it offers and how busy it is."""

import asyncio
import logging
import os
import platform
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from lineshaft_protocol.resources import Capacity, Gpu
from lineshaft_worker.daemon.meeting import MeetingPort
from lineshaft_worker.devices.affinity import cpus_near
from lineshaft_worker.devices.gpu import NvmlUnavailable
from lineshaft_worker.devices.inventory import Inventory, MachineInventory
from lineshaft_worker.devices.load import GpuLoad, LoadSample, LoadSampler
from lineshaft_worker.devices.nvml import Nvml
from lineshaft_worker.devices.quarantine import Quarantine, left_on, occupied
from lineshaft_worker.devices.selection import Restrictions
from lineshaft_worker.execution.cgroups import PROCESS_ISOLATION, Cgroups
from lineshaft_worker.execution.limits import JobLimits

logger = logging.getLogger(__name__)

GIVE_BACK_S = 5.0
"""How long a driver may take to give back the memory of a process that has ended."""
LOOK_S = 0.1
DRIVER_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What this worker offers, after its operator's restrictions."""

    machine: MachineInventory
    capacity: Capacity
    tags: tuple[str, ...]
    capabilities: dict[str, JsonValue]


class MachineRoom:
    """Looks at CPUs, memory and GPUs.

    Args:
        slots: How many attempts may run at once; ``None`` means one for each CPU.
        meeting: A port of this machine that is kept free for gangs.
        cgroups: Where each runner gets a control group of its own; ``None`` if that cannot be.
        limits: What each process of a job may have at most.
        pythons: Interpreters that were found already; ``None``: it looks for them.
    """

    def __init__(
        self,
        restrictions: Restrictions,
        *,
        slots: int | None,
        meeting: MeetingPort,
        cgroups: Cgroups | None = None,
        limits: JobLimits | None = None,
        pythons: tuple[str, ...] | None = None,
    ) -> None:
        self.meeting, self.cgroups, self.limits = meeting, cgroups, limits or JobLimits()
        self._nvml = Nvml.open()
        self._inventory = Inventory(self._nvml, environ=os.environ, pythons=pythons)
        self._restrictions, self._slots = restrictions, slots
        self._offer = self._look()
        self._faults: dict[str, str | None] = {gpu.uuid: None for gpu in self._offer.machine.gpus}
        self._sampler = LoadSampler(self._offer.machine.gpus, self._nvml)
        self._quarantine = Quarantine()

    @property
    def offer(self) -> Offer:
        """What was found at the start."""
        return self._offer

    def _look(self) -> Offer:
        machine = self._inventory.detect(self._restrictions)
        faults = tuple(
            Gpu(
                uuid=fault.uuid or f"index-{fault.index}",
                name="?",
                memory_bytes=0,
                fault=fault.reason,
            )
            for fault in machine.gpu_faults
        )
        gpus = tuple(
            Gpu(uuid=gpu.uuid, name=gpu.name, memory_bytes=gpu.memory_bytes) for gpu in machine.gpus
        )
        capacity = Capacity(
            slots=self._slots or max(1, int(machine.cpu_cores)),
            cpus=machine.cpu_cores,
            memory_bytes=machine.ram_bytes,
            gpus=gpus + faults,
        )
        capabilities: dict[str, JsonValue] = {
            "cpu_cores": max(1, int(machine.cpu_cores)),
            "ram_bytes": machine.ram_bytes,
            "gpus": [{"name": gpu.name, "memory_bytes": gpu.memory_bytes} for gpu in machine.gpus],
            "python_envs": [*machine.python_envs],
            "tags": [*machine.tags],
            "isolation": self.cgroups.facts() if self.cgroups else PROCESS_ISOLATION,
        }
        return Offer(machine, capacity, machine.tags, capabilities)

    async def sample(
        self, devices: Callable[[], frozenset[str]]
    ) -> tuple[dict[str, JsonValue], Capacity]:
        """How busy the machine is, and what it offers now: GPUs that cannot be used are marked.

        Args:
            devices: Tells which GPUs our own runners may be using; nobody should use the others.
        """
        # Before and after: a runner may come or go while the driver is asked.
        ours = devices()
        sample = await asyncio.to_thread(self._sampler.sample)
        ours |= devices()
        self._look_at(sample.gpus, ours)
        return _load(sample), self.capacity()

    async def check_devices(
        self, uuids: Sequence[str], devices: Callable[[], frozenset[str]], gone_pid: int, who: str
    ) -> Capacity:
        """Wait until an ended attempt's GPUs have their memory back, or put them out of use.

        Args:
            uuids: The GPUs it had.
            devices: Tells which GPUs other runners of ours may see: what they hold is theirs.
            gone_pid: Its process, as far as the driver shows pids of ours.
            who: The attempt, for the reason that people read.

        Returns:
            What the machine offers now.
        """
        began = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(DRIVER_S_MAX):
                    gpus = await asyncio.to_thread(self._sampler.gpus)
            except TimeoutError:
                self._quarantine.blame(uuids, f"the driver did not answer after {who} ended")
                break
            mine = [gpu for gpu in gpus if gpu.uuid in uuids]
            left = {
                gpu.uuid: text for gpu in mine if (text := self._left_on(gpu, devices(), gone_pid))
            }
            if not left:
                break
            if time.monotonic() - began >= GIVE_BACK_S:
                for uuid, text in left.items():
                    logger.error("a GPU is put out of use", extra={"gpu": uuid, "why": text})
                    self._quarantine.add(uuid, f"{text} after {who} ended", gone_pid)
                break
            await asyncio.sleep(LOOK_S)
        return self.capacity()

    async def look_before(
        self, uuids: Sequence[str], devices: Callable[[], frozenset[str]]
    ) -> str | None:
        """Say who uses a GPU that an attempt is about to get; None if nobody does.

        Args:
            uuids: The GPUs it is to have.
            devices: Tells which GPUs runners of ours may see: what they hold is ours.
        """
        ours = devices()
        try:
            async with asyncio.timeout(DRIVER_S_MAX):
                gpus = await asyncio.to_thread(self._sampler.gpus)
        except TimeoutError:
            self._quarantine.blame(uuids, "the driver did not answer")
            return "the driver did not answer"
        ours |= devices()
        self._look_at(gpus, ours)
        problems = [self.fault(uuid) for uuid in uuids]
        return next((problem for problem in problems if problem is not None), None)

    def _left_on(self, gpu: GpuLoad, ours: Collection[str], gone_pid: int) -> str | None:
        return left_on(gpu, ours, gone_pid, self._quarantine.pardon(gpu.uuid))

    async def forgive(self, uuid: str) -> None:
        """Take what is on a GPU now for granted; a fault that the driver tells stays one."""
        for gpu in await self.gpus():
            if gpu.uuid == uuid:
                logger.warning("a GPU is taken back into use by an operator", extra={"gpu": uuid})
                self._quarantine.forgive(gpu)

    async def gpus(self) -> tuple[GpuLoad, ...]:
        """Look at the GPUs alone."""
        return await asyncio.to_thread(self._sampler.gpus)

    def fault(self, uuid: str) -> str | None:
        """Say why nothing may be placed on a GPU, as of the last look."""
        return self._quarantine.reason(uuid) or self._faults.get(uuid)

    def cpus_near(self, uuids: Sequence[str]) -> tuple[int, ...]:
        """Name the CPUs on the memory nodes of these GPUs; nothing where that is not known."""
        allowed = os.sched_getaffinity(0)
        return cpus_near(self._offer.machine.gpus, uuids, allowed=allowed)

    def _look_at(self, gpus: Sequence[GpuLoad], ours: Collection[str]) -> None:
        """Take a whole sample in: mark what cannot be used, and what can be again."""
        self._faults = {
            gpu.uuid: gpu.fault or occupied(gpu, ours, self._quarantine.pardon(gpu.uuid))
            for gpu in gpus
        }
        for uuid in self._quarantine.heal(gpus, ours):
            logger.info("a GPU may be used again", extra={"gpu": uuid})

    def capacity(self) -> Capacity:
        """What the machine offers, as of the last look."""
        capacity = self._offer.capacity
        gpus = tuple(
            gpu.model_copy(update={"fault": self.fault(gpu.uuid)})
            if gpu.uuid in self._faults
            else gpu
            for gpu in capacity.gpus
        )
        return capacity.model_copy(update={"gpus": gpus})

    def close(self) -> None:
        """Let go of the driver and of the port."""
        self.meeting.close()
        if not isinstance(self._nvml, NvmlUnavailable):
            self._nvml.close()


def _load(sample: LoadSample) -> dict[str, JsonValue]:
    sensors: dict[str, list[JsonValue]] = {
        "gpu_temperature_c": [gpu.temperature_c for gpu in sample.gpus],
        "gpu_power_w": [gpu.power_w for gpu in sample.gpus],
    }
    return {
        "cpu_usage": round(sample.cpu_usage, 4),
        "memory_usage": round(sample.memory_usage, 4),
        "gpu_usage": [gpu.utilisation for gpu in sample.gpus],
        "gpu_memory_used_bytes": [gpu.memory_used_bytes for gpu in sample.gpus],
        # A machine without such sensors says nothing of them.
        **{name: told for name, told in sensors.items() if told.count(None) < len(told)},
        "timestamp": sample.timestamp.isoformat().replace("+00:00", "Z"),
    }


def own_python() -> str:
    """Our own Python minor, as ``3.11``."""
    return ".".join(platform.python_version_tuple()[:2])
