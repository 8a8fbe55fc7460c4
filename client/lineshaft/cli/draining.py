"""Taking a worker out of service, and a GPU of it back into service."""

import asyncio
import time

from pydantic import JsonValue

from lineshaft.async_client import AsyncClient
from lineshaft.cli.exits import NotFoundError
from lineshaft.cli.jobs import rows_of
from lineshaft.errors import QueryError
from lineshaft_protocol.client_messages import Drain, Heal

HEARD_S_MAX = 12.0
"""A worker that looks again is heard of with its next heartbeat, usually within 5 s."""


async def drain_worker(client: AsyncClient, worker_id: str, *, stops: bool) -> None:
    """Have the coordinator give a worker nothing more.

    Args:
        client: Connected.
        worker_id: Of a worker that is here.
        stops: Whether its daemon ends once it is idle.

    Raises:
        NotFoundError: No worker of this name is here.
    """
    try:
        await client.shell.questions.ask(Drain(request_id=0, worker_id=worker_id, stop=stops))
    except QueryError as error:
        raise NotFoundError(f"{error.message}; 'lineshaft workers' lists them") from error


async def heal_gpu(client: AsyncClient, worker_id: str, gpu: str) -> str | None:
    """Have a worker look at a GPU again that it had put out of use.

    Args:
        client: Connected.
        worker_id: Of a worker that is here.
        gpu: The GPU's UUID.

    Returns:
        Why it is still out of use; None if it is offered again.

    Raises:
        NotFoundError: No worker of this name is here, or it has no such GPU.
    """
    try:
        await client.shell.questions.ask(Heal(request_id=0, worker_id=worker_id, gpu=gpu))
    except QueryError as error:
        raise NotFoundError(f"{error.message}; 'lineshaft workers --json' lists them") from error
    deadline = time.monotonic() + HEARD_S_MAX
    while True:
        # What it finds comes with one of its next heartbeats.
        fault = _fault_of(await client.workers(), worker_id, gpu)
        if fault is None or time.monotonic() > deadline:
            return fault
        await asyncio.sleep(0.25)


def _fault_of(workers: JsonValue, worker_id: str, gpu: str) -> str | None:
    for worker in rows_of(workers):
        for each in rows_of(worker.get("gpus")):
            if worker.get("worker_id") == worker_id and each.get("uuid") == gpu:
                fault = each.get("fault")
                return fault if isinstance(fault, str) else None
    return "its worker has gone"
