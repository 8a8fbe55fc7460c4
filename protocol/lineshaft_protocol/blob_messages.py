"""Control messages that move blobs; their bytes travel in binary frames (``frames``)."""

from typing import Literal

from pydantic import Field

from lineshaft_protocol.ids import Digest
from lineshaft_protocol.wire import NUMBER_MAX, Wire


class BlobOffer(Wire):
    """I have this blob; where shall I begin?"""

    type: Literal["BlobOffer"] = "BlobOffer"
    blob_id: Digest
    size_bytes: int = Field(ge=0, le=NUMBER_MAX)


class BlobStatus(Wire):
    """How much of an offered blob is stored: all of it, verified, once ``is_complete``."""

    type: Literal["BlobStatus"] = "BlobStatus"
    blob_id: Digest
    received_bytes: int = Field(ge=0, le=NUMBER_MAX)
    is_complete: bool


class BlobRefused(Wire):
    """The blob cannot be stored."""

    type: Literal["BlobRefused"] = "BlobRefused"
    blob_id: Digest
    message: str


class FetchBlob(Wire):
    """Send me this blob from this offset on."""

    type: Literal["FetchBlob"] = "FetchBlob"
    blob_id: Digest
    offset: int = Field(default=0, ge=0, le=NUMBER_MAX)


class BlobMissing(Wire):
    """There is no such blob here."""

    type: Literal["BlobMissing"] = "BlobMissing"
    blob_id: Digest


class BlobAck(Wire):
    """Bytes taken in by the receiver; the sender keeps at most a window beyond it in flight."""

    type: Literal["BlobAck"] = "BlobAck"
    blob_id: Digest
    received_bytes: int = Field(ge=0, le=NUMBER_MAX)
