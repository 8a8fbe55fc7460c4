"""Tells who submits a job what it waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lineshaft.async_client import AsyncClient
    from lineshaft.cli.output import Output
    from lineshaft.job import AsyncJob

SAY_AFTER_S = 5.0
"""A coordinator that takes no work is told of after so long."""


async def say_if_it_waits(output: Output, client: AsyncClient, job: AsyncJob[object]) -> None:
    """Tell once what is waited for if the coordinator does not have the job soon."""
    from lineshaft.cli.readiness import obstacle_of  # noqa: PLC0415 - few wait so long
    from lineshaft_protocol.ids import JobId  # noqa: PLC0415 - takes long

    try:
        async with asyncio.timeout(SAY_AFTER_S):
            await client.shell.jobs.kept(JobId(job.id))
    except TimeoutError:
        where = client.shell.where
        text = await obstacle_of(where)
        why = f"it says that it is not ready: {text}" if text else "job and files are on their way"
        output.note(f"waiting until {where.url} has the job: {why}; Ctrl-C gives up")
