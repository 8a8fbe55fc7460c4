"""What HTTP may change, done by the daemon."""

import asyncio
from pathlib import Path

from lineshaft_coordinator.core.io import PauseAsked, ResumeAsked
from lineshaft_coordinator.server.backups import OtherDataError, Summary
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.server.upkeep import Upkeep
from lineshaft_protocol.client_messages import Cancel
from lineshaft_protocol.ids import JobId


class DaemonActions:
    """What HTTP may change."""

    def __init__(self, data: Path, daemon: Daemon, upkeep: Upkeep) -> None:
        self._data, self._daemon, self._upkeep = data, daemon, upkeep
        self.obstacle: str | None = None

    async def cancel(self, job_id: JobId, reason: str) -> None:
        """Ask for the end of a job."""
        self._daemon.cancel(Cancel(job_id=job_id, reason=reason))

    async def pause(self, job_id: JobId, reason: str, *, freeze: bool) -> None:
        """Ask a job to pause."""
        self._daemon.post(PauseAsked(job_id, reason, freeze=freeze))

    async def resume(self, job_id: JobId, *, checkpoint: str | None = None) -> None:
        """Let a job go on."""
        self._daemon.post(ResumeAsked(job_id, checkpoint))

    async def retry(self, job_id: JobId, owner: str) -> JobId:
        """Do an ended job again, for the token of this id."""
        return await self._daemon.retries.retry(job_id, None, client_id="http", owner=owner)

    async def back_up(self, data: Path, target: Path) -> Summary:
        """Make a backup of the data folder, if it is the one that is meant."""
        own = await asyncio.to_thread(self._data.resolve)
        if data != own:
            raise OtherDataError(asked=data, own=own)
        return await self._upkeep.back_up(own, target)
