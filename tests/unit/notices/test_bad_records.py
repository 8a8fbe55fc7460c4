"""One record that cannot be announced holds up none of the others."""

import asyncio
from pathlib import Path

import pytest
from tests.integration.store.samples import row

from lineshaft_coordinator.core.io import Append
from lineshaft_coordinator.core.records import FileKept, encode
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.notices.announcer import Announcer
from lineshaft_coordinator.notices.registry import FILE_NAME, Registry
from lineshaft_coordinator.notices.settings import AnnouncerSettings
from lineshaft_coordinator.store.interface import Batch
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_runtime.checkpoint_notices import CheckpointNotice, NoticeSettings

NOBODY = "redis://127.0.0.1:1"
VERSION_MAX = 2**63 - 1
"""The registry has no number for the one after it."""
UNREADABLE = b'{"type":"FileKept","job_id":"j","file":{"shape":"new"}}'


def kept(model: str, blob: str, at: float) -> FileKept:
    file = KeptFile(
        file_id=f"1.{model}",
        kind="checkpoint",
        name="m.pt",
        attempt=1,
        at=at,
        blob=blob,
        metadata={"model_name": model},
    )
    return FileKept(job_id="j", file=file)


async def told(announcer: Announcer, model: str) -> CheckpointNotice:
    async with asyncio.timeout(10):
        while (notice := await announcer.last(model)) is None:
            pass  # Each question is a thread of its own.
    return notice


@pytest.mark.parametrize("is_heard", [True, False], ids=["heard", "read from the journal"])
async def test_a_bad_record_is_passed_over_and_the_next_is_announced(
    tmp_path: Path, is_heard: bool
) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    blobs = BlobStore(tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 20)
    blob = blobs.put_bytes(b"weights")
    registry = Registry(tmp_path / FILE_NAME)
    registry.advance(0, ())
    registry.enter(("j", "1.last"), CheckpointNotice("m.pt", "full", VERSION_MAX), 0.0)
    registry.close()
    records = [kept("full", blob, 0.0), kept("late", blob, 1e300), kept("good", blob, 0.0)]
    data = [] if is_heard else [UNREADABLE, *map(encode, records)]
    await store.append(Batch(records=[("j", 1.0, each) for each in data], rows=[row("j")]))
    settings = AnnouncerSettings(redis=NoticeSettings(url=NOBODY), folder=None, kept=5)
    announcer = Announcer(settings, store, blobs, data=tmp_path, keep_s=1e9)
    if is_heard:
        announcer.on_commit([Append(record) for record in records])

    running = asyncio.create_task(announcer.run())
    notices = [await told(announcer, model) for model in ("late", "good")]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    announcer.close()
    await store.close()

    assert notices[1].saved_at == "1970-01-01T00:00:00+00:00"
    assert notices[0].saved_at > "2020"
