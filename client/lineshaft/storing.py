"""Bringing blobs to the coordinator, by whichever way is shorter."""

from lineshaft.shipping import Blob
from lineshaft_runtime.same_host import SameHostFiles, bytes_into
from lineshaft_runtime.transfers import BlobTransfers


async def store(blob: Blob, transfers: BlobTransfers, files: SameHostFiles) -> None:
    """Bring a blob to the coordinator; returns once it is stored there.

    Raises:
        BlobRefusedError: It cannot be stored there.
        ClientClosedError: The client is closed.
    """
    size_bytes = len(blob.data)
    if not await files.give(blob.id, size_bytes, blob.laid or bytes_into(blob.data)):
        await transfers.upload(blob.id, size_bytes, blob.read)
