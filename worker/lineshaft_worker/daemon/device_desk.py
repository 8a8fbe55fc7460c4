"""GPUs of attempts: looked at before a start, sampled while one runs, checked after its end."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from pydantic import JsonValue

from lineshaft_protocol.worker_messages import Assign
from lineshaft_worker.core import io
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.daemon.machine_room import MachineRoom
from lineshaft_worker.devices.gpu_memory import used_by
from lineshaft_worker.execution import shim

logger = logging.getLogger(__name__)

SAMPLE_S = 1.0


@dataclass(slots=True)
class _Watched:
    """An attempt that has GPUs."""

    devices: tuple[str, ...]
    is_alone: bool
    """No other attempt may be on them: memory that nobody owns is then its own."""
    pid: int = 0
    peak_bytes: int | None = None


class DeviceDesk:
    """Stands between the core and the GPUs of its attempts.

    Args:
        devices: Tells which GPUs runners of ours may see now.
        post: Gives the core an event.
        spawn: Runs work beside the caller.
    """

    def __init__(
        self,
        room: MachineRoom,
        *,
        devices: Callable[[], frozenset[str]],
        post: Callable[[io.Event], None],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._room, self._devices, self._post, self._spawn = room, devices, post, spawn
        self._starting: dict[AttemptKey, bool] = {}
        """Attempts whose GPUs are being looked at; True for those that are to stop."""
        self._watched: dict[AttemptKey, _Watched] = {}
        self._sampling: asyncio.Task[None] | None = None

    # --- before ---

    def start(self, key: AttemptKey, assign: Assign, begin: Callable[[], None]) -> None:
        """Begin an attempt, once its GPUs are seen to be free of others."""
        self._starting[key] = False
        self._spawn(self._look(key, assign, begin))

    def stop(self, key: AttemptKey) -> bool:
        """Say whether the attempt has not begun yet; then it will not, and the core is told."""
        if key not in self._starting:
            return False
        self._starting[key] = True
        return True

    async def _look(self, key: AttemptKey, assign: Assign, begin: Callable[[], None]) -> None:
        devices = assign.devices or ()
        problem = await self._room.look_before(devices, self._devices)
        is_stop_wanted = self._starting.pop(key)
        if problem is None and not is_stop_wanted:
            self._watch(key, assign)
            begin()
            return
        if problem is not None:
            fields = {"job": key.job_id, "attempt": key.attempt, "why": problem}
            logger.warning("an attempt is given back: its GPU is in use", extra=fields)
        # In this order: what is out of use is not given to it again.
        self._post(io.DevicesChecked(key, self._room.capacity()))
        self._post(io.AttemptReturned(key))

    # --- while it runs ---

    def _watch(self, key: AttemptKey, assign: Assign) -> None:
        wanted = assign.job.resources
        is_alone = wanted is None or wanted.gpu_memory_bytes == 0
        self._watched[key] = _Watched(assign.devices or (), is_alone)

    def on_began(self, key: AttemptKey, pid: int) -> None:
        """Its process is known."""
        watched = self._watched.get(key)
        if watched is None:
            return
        watched.pid = pid
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        try:
            while any(each.pid for each in self._watched.values()):
                await self._sample_once()
                await asyncio.sleep(SAMPLE_S)
        finally:
            self._sampling = None

    async def _sample_once(self) -> None:
        gpus = await self._room.gpus()
        for watched in tuple(self._watched.values()):
            if not watched.pid:
                continue
            pids = await asyncio.to_thread(_tree, watched.pid)
            mine = [gpu for gpu in gpus if gpu.uuid in watched.devices]
            used = used_by(mine, pids, is_alone=watched.is_alone)
            if used is not None:
                watched.peak_bytes = max(used, watched.peak_bytes or 0)

    def seen(self) -> dict[str, JsonValue]:
        """The most memory each job was seen to have on its GPUs together, so far."""
        peaks: dict[str, JsonValue] = {
            key.job_id: each.peak_bytes for key, each in self._watched.items()
        }
        return {"peak_gpu_memory_of_jobs": peaks} if peaks else {}

    def on_ended(self, key: AttemptKey) -> int | None:
        """Forget an attempt; returns the most memory it was seen to have on its GPUs together."""
        watched = self._watched.pop(key, None)
        return None if watched is None else watched.peak_bytes

    # --- after ---

    async def check(self, key: AttemptKey, devices: tuple[str, ...], pid: int) -> None:
        """Tell the core when GPUs were given back, or that they are out of use."""
        who = f"attempt {key.attempt} of job {key.job_id}"
        capacity = await self._room.check_devices(devices, self._devices, pid, who)
        self._post(io.DevicesChecked(key, capacity))

    def close(self) -> None:
        """Stop sampling."""
        if self._sampling is not None:
            self._sampling.cancel()


def _tree(pid: int) -> set[int]:
    """Return a runner's process and whatever descends from it, with those that lost a parent."""
    try:
        parent = int(shim.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return {pid}
    # The shim: orphans become its children. If it was killed, our own tree is not the runner's.
    return {pid} | shim.descendants(parent if parent > 1 else pid)
