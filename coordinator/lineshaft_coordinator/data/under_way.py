"""What one session knows of blobs on their way to and from its peer."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from lineshaft_protocol.frames import BlobChunk


@dataclass(slots=True)
class UploadUnderWay:
    """A blob that the peer sends."""

    size_bytes: int
    received_bytes: int = 0
    acked_bytes: int = 0
    pieces: deque[BlobChunk] = field(default_factory=deque[BlobChunk])
    queued_bytes: int = 0
    task: asyncio.Task[None] | None = None
    failure: str | None = None
    is_overtaken: bool = False
    """Another session brought some of the same blob meanwhile."""
    whole: bytes | memoryview | None = None
    """All of it, if it came in one piece."""


@dataclass(slots=True)
class DownloadUnderWay:
    """A blob that the peer is sent."""

    size_bytes: int
    sent_bytes: int
    acked_bytes: int
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
