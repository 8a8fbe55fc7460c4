"""Bringing blobs into memory."""

from contextlib import suppress
from pathlib import Path

from lineshaft.shell import Shell
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import Payload
from lineshaft_runtime.mapped import mapped


def at_hand(shell: Shell, payload: Payload) -> memoryview | None:
    """Return the content of a blob if it is a file whose place we were told; else `fetch` it."""
    path = None if payload.blob is None else shell.files.told(BlobId(payload.blob))
    return None if path is None else _mapped(path, payload.size_bytes)


def _mapped(path: Path, size_bytes: int | None) -> memoryview | None:
    with suppress(OSError):  # Collected meanwhile: the connection says so properly.
        found = mapped(path)
        if size_bytes is None or found.nbytes == size_bytes:
            return found
    return None


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
    if path is not None and (found := _mapped(path, size_bytes)) is not None:
        return found
    data = bytearray(payload.size_bytes or 0)

    def sink(offset: int, piece: bytes | memoryview) -> None:
        data[offset : offset + len(piece)] = piece

    await shell.transfers.download(blob_id, sink, payload.size_bytes)
    return data
