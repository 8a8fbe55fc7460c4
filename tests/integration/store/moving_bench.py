"""A blob store, an object store that is a folder, and what moves blobs between them."""

import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.integration.gateway.seed_bench import until

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.data.store_note import StoreNote, note_for
from lineshaft_coordinator.data.stored_objects import INDEX, StoredObjects
from lineshaft_coordinator.server.blob_room import moving
from lineshaft_runtime.object_store import ObjectStore, object_name

LARGE = os.urandom(300_000)
NAME = hashlib.sha256(LARGE).hexdigest()


@dataclass
class Bench:
    data: Path
    store: Path
    copies_bytes_max: int = 1 << 30
    total_bytes_max: int = 1 << 30

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As a coordinator does when it starts."""
        note = note_for(self.data, f"file://{self.store}")
        assert note is not None
        self.note: StoreNote = note
        objects = ObjectStore(note.url)
        self.stored = StoredObjects(self.data / "blobs" / INDEX, objects, bytes_min=1000)
        self.blobs = BlobStore(
            self.data / "blobs",
            blob_bytes_max=1 << 20,
            total_bytes_max=self.total_bytes_max,
            free_bytes_min=1,
            stored=self.stored,
        )
        self.mover = ObjectMover(
            self.blobs, self.stored, note, copies_bytes_max=self.copies_bytes_max
        )

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, **limits: int) -> AsyncGenerator[Self]:
        """One with these limits, while blobs move."""
        (folder / "data").mkdir()
        (folder / "store").mkdir()
        bench = cls(folder / "data", folder / "store", **limits)
        await bench.mover.claim()
        async with moving(bench.mover):
            yield bench

    def object(self, name: str = NAME) -> Path:
        return self.store / object_name(name)

    async def moved(self, name: str = NAME) -> None:
        await until(lambda: name in self.stored)
