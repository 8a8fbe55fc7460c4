"""What can be wrong with a blob, and what to do about it."""

import errno
from pathlib import Path

from lineshaft_protocol.errors import LineshaftError


class BlobError(LineshaftError):
    """The blob store cannot do what it was asked."""

    for_peers: str | None = None
    """What a peer is told of it, if more than that the blob cannot be had."""


class BlobIdError(BlobError):
    """The name of a blob is not 64 lower-case hexadecimal digits."""

    def __init__(self, blob_id: str) -> None:
        super().__init__(f"{blob_id[:80]!r} names no blob: a name is 64 hexadecimal digits")
        self.blob_id = blob_id


class BlobNotFoundError(BlobError):
    """There is no complete blob of that name."""

    def __init__(self, blob_id: str) -> None:
        super().__init__(f"there is no blob {blob_id}; send it again")
        self.blob_id = blob_id


class BlobNotBegunError(BlobError):
    """Bytes came for a blob whose upload is not under way."""

    def __init__(self, blob_id: str) -> None:
        super().__init__(f"blob {blob_id} was not begun, or was given up; begin it again")
        self.blob_id = blob_id


class BlobOffsetError(BlobError):
    """Bytes were sent twice, out of order, or asked for past the end."""

    def __init__(self, blob_id: str, offset: int, expected: int) -> None:
        super().__init__(f"blob {blob_id}: offset {offset} where {expected} was expected")
        self.blob_id, self.offset, self.expected = blob_id, offset, expected


class BlobMismatchError(BlobError):
    """The bytes that arrived are not the blob they were said to be; they were dropped."""

    def __init__(self, blob_id: str, detail: str) -> None:
        super().__init__(f"blob {blob_id}: {detail}; what arrived was dropped, send it again")
        self.blob_id, self.detail = blob_id, detail


class BlobTooLargeError(BlobError):
    """A blob is larger than one blob may be."""

    def __init__(self, blob_id: str, size_bytes: int, blob_bytes_max: int) -> None:
        super().__init__(f"blob {blob_id} has {size_bytes} bytes; at most {blob_bytes_max} may be")
        self.blob_id, self.size_bytes, self.blob_bytes_max = blob_id, size_bytes, blob_bytes_max


class BlobStoreFullError(BlobError):
    """A limit of the store or its disk leaves no room for a blob; nothing of it is kept."""

    def __init__(self, blob_id: str, reason: str) -> None:
        super().__init__(f"no room for blob {blob_id}: {reason}")
        self.blob_id, self.reason = blob_id, reason


class BlobDiskError(BlobError):
    """The disk failed while a blob was written or read; an upload of it was dropped."""

    def __init__(self, blob_id: str, reason: str) -> None:
        super().__init__(f"blob {blob_id}: {reason}; check the disk, then send it again")
        self.blob_id, self.reason = blob_id, reason


class BlobLostError(BlobNotFoundError):
    """A blob is no longer in the object store where it should be."""

    def __init__(self, blob_id: str, detail: str) -> None:
        text = f"blob {blob_id} is lost: {detail}; send it again, or do again what made it"
        BlobError.__init__(self, text)
        self.blob_id, self.detail, self.for_peers = blob_id, detail, str(self)


class BlobElsewhereError(BlobError):
    """A blob is in the object store and cannot be had from there now."""

    def __init__(self, blob_id: str, detail: str) -> None:
        super().__init__(f"blob {blob_id} is in the object store: {detail}; try again later")
        self.blob_id, self.detail, self.for_peers = blob_id, detail, str(self)


def disk_error(blob_id: str, folder: Path, error: OSError) -> BlobError:
    """Say what a failure of the disk of a folder means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BlobStoreFullError(blob_id, f"the disk of {folder} is full")
    return BlobDiskError(blob_id, str(error))


def not_under_way(blob_id: str, offset: int, complete_bytes: int | None) -> BlobError:
    """Say why bytes are not taken: the blob is complete, or was not begun."""
    if complete_bytes is None:
        return BlobNotBegunError(blob_id)
    return BlobOffsetError(blob_id, offset, complete_bytes)
