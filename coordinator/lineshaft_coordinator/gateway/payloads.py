"""Bytes of jobs: in the message or as a blob, and away from the event loop when they are many."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_protocol.jobs import INLINE_BYTES_MAX, Environment, Payload
from lineshaft_runtime.requirements import parse_requirements

Result = TypeVar("Result")

AT_ONCE_BYTES_MAX = 64 * 1024
"""Documents up to this length are read and written without a thread: about a millisecond."""


async def apart(size_bytes: int, work: Callable[[], Result]) -> Result:
    """Do what takes time in proportion to a size; in a thread, if that is long."""
    return work() if size_bytes <= AT_ONCE_BYTES_MAX else await asyncio.to_thread(work)


async def stored(blobs: BlobStore, data: bytes) -> Payload:
    """Make bytes the payload of a job.

    Raises:
        BlobError: They are too many, or the disk is full.
    """
    if len(data) <= INLINE_BYTES_MAX:
        return Payload.of_bytes(data)
    blob_id = await asyncio.to_thread(blobs.put_bytes, data)
    return Payload(blob=blob_id, size_bytes=len(data))


async def fetched(blobs: BlobStore, payload: Payload) -> bytes:
    """Give the bytes of a job's result.

    Raises:
        BlobError: They are gone, or the disk failed.
    """
    if payload.blob is None:
        return payload.inline_bytes()
    blob_id = payload.blob

    def read() -> bytes:
        return blobs.read(blob_id, 0, blobs.size_of(blob_id) or 0)

    return await asyncio.to_thread(read)


async def environment_of(blobs: BlobStore, requirements: str) -> Environment | None:
    """Make requirements an environment; None if there are none.

    Raises:
        BlobError: They are too many, or the disk is full.
        RequirementsError: They cannot be read.
    """
    text = parse_requirements([requirements]).text()
    return Environment(requirements=await stored(blobs, text.encode())) if text else None
