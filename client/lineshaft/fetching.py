"""Bringing blobs into memory."""

from lineshaft.shell import Shell
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import Payload


async def fetch(shell: Shell, payload: Payload) -> bytearray:
    """Return the content of a blob.

    Raises:
        BlobMissingError: The coordinator has it no more.
        BlobDamagedError: Something else arrived.
        ClientClosedError: The client is closed.
    """
    assert payload.blob is not None, "what is inline need not be fetched"
    data = bytearray(payload.size_bytes or 0)

    def sink(offset: int, piece: bytes) -> None:
        data[offset : offset + len(piece)] = piece

    await shell.transfers.download(BlobId(payload.blob), sink, payload.size_bytes)
    return data
