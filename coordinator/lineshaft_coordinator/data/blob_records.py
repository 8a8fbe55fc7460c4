"""What a blob store knows of a blob, and of one that is on its way."""

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BlobFile:
    """Where a complete blob lies."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, uploads that were given up included."""

    count: int
    size_bytes: int


class Digest(Protocol):
    """What computes a hash piece by piece."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next piece in."""
        ...

    def hexdigest(self) -> str:
        """Return the hash of what came so far."""
        ...


@dataclass(slots=True)
class Upload:
    """An upload under way. Its lock is held while its file is touched."""

    path: Path
    size_bytes: int
    received_bytes: int | None = None
    """`None` until somebody has looked at what an earlier process left."""
    digest: Digest = field(default_factory=hashlib.sha256)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False
    reserved_bytes: int = 0
    """What it counts for."""
    holders: set[object] = field(default_factory=set[object])
    """Who sends it."""
    is_resting: bool = False
    """Whether all who sent it are gone."""
