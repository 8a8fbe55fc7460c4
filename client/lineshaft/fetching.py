"""Bringing blobs into memory."""

from contextlib import suppress

from lineshaft.shell import Shell
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import Payload
from lineshaft_runtime.mapped import mapped


async def fetch(shell: Shell, payload: Payload) -> bytearray | memoryview:
    """Return the content of a blob.

    Raises:
        BlobMissingError: The coordinator has it no more.
        BlobDamagedError: Something else arrived.
        ClientClosedError: The client is closed.
    """
    assert payload.blob is not None, "what is inline need not be fetched"
    blob_id, size_bytes = BlobId(payload.blob), payload.size_bytes
    path = await shell.files.find(blob_id, size_bytes)
    if path is not None:
        with suppress(OSError):  # Collected meanwhile: the connection says so properly.
            found = mapped(path)
            if size_bytes is None or found.nbytes == size_bytes:
                return found
    data = bytearray(payload.size_bytes or 0)

    def sink(offset: int, piece: bytes | memoryview) -> None:
        data[offset : offset + len(piece)] = piece

    await shell.transfers.download(blob_id, sink, payload.size_bytes)
    return data
