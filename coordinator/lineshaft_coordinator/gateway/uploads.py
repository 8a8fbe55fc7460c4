"""Values that clients sent ahead of a plan, because they are too large for its message.

A reference names an upload of the same token, and nothing else: no path of it is ever opened. What
it names is lost with the coordinator's process, and with it goes nothing that a client could not
send again.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from lineshaft_coordinator.data.blob_errors import BlobNotFoundError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_protocol.seed import (
    CachedRef,
    DataRef,
    InlineRef,
    LocalRef,
    S3Ref,
    StreamRef,
    Value,
    ZarrRef,
    decode_json,
    decode_msgpack,
    encode_json,
    read_value,
)

UPLOAD_BYTES_MAX: Final = 128 * 1024 * 1024
UPLOADS_MAX: Final = 1000
"""Of one token; the oldest is forgotten first."""
_SCHEME: Final = "lineshaft-upload:"


class Uploads:
    """What was uploaded, by the identity (a token) that did."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._names: dict[str, OrderedDict[str, None]] = {}
        # A value of a hundred megabytes takes a gigabyte while it is read: one at a time.
        self._reading = asyncio.Lock()

    async def keep(self, identity: str, body: bytes) -> LocalRef:
        """Keep a value, as JSON or msgpack.

        Raises:
            ProtocolError: It is no value.
            UnencodableError: It holds NaN or an infinity, which plans cannot carry.
            BlobError: There is no room for it.
        """
        async with self._reading:
            blob_id = await asyncio.to_thread(self._keep, body)
        names = self._names.setdefault(identity, OrderedDict())
        names[blob_id] = None
        names.move_to_end(blob_id)
        if len(names) > UPLOADS_MAX:
            names.popitem(last=False)
        return LocalRef(path=f"{_SCHEME}{blob_id}")

    async def text(self, identity: str, ref: DataRef) -> bytes | None:
        """Give the JSON of what a reference names; ``None`` if it is nothing of this identity."""
        if isinstance(ref, InlineRef):
            return encode_json(ref.value.to_wire("C")).encode()
        blob_id = _blob_id(ref)
        if blob_id is None or blob_id not in self._names.get(identity, ()):
            return None
        try:
            return await asyncio.to_thread(self._read, blob_id)
        except BlobNotFoundError:  # Collected since: nobody referred to it in time.
            return None

    async def value(self, identity: str, ref: DataRef) -> Value | None:
        """Give what a reference names; ``None`` if it is nothing of this identity."""
        if isinstance(ref, InlineRef):
            return ref.value
        text = await self.text(identity, ref)
        if text is None:
            return None
        async with self._reading:
            return await asyncio.to_thread(lambda: read_value(decode_json(text)))

    def _keep(self, body: bytes) -> str:
        # Whatever the content type says, as upstream; a JSON value never starts like this.
        is_msgpack = body[:1] >= b"\x80"
        document = (
            decode_msgpack(body, bytes_max=UPLOAD_BYTES_MAX) if is_msgpack else decode_json(body)
        )
        return self._blobs.put_bytes(encode_json(read_value(document).to_wire("C")).encode())

    def _read(self, blob_id: str) -> bytes:
        return self._blobs.read(blob_id, 0, self._blobs.size_of(blob_id) or 0)


def _blob_id(ref: LocalRef | CachedRef | S3Ref | StreamRef | ZarrRef) -> str | None:
    """Say which of our uploads a reference could mean."""
    match ref:
        case LocalRef(path=path):
            return path.removeprefix(_SCHEME) if path.startswith(_SCHEME) else None
        case CachedRef(cache_key=key):
            return key.hex()
        case S3Ref() | StreamRef() | ZarrRef():
            return None
