"""ZIP archives whose length and checksum are known before they are sent."""

import asyncio
import hashlib
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

from lineshaft_coordinator.finetune.archives import (
    Archive,
    Content,
    Entry,
    file_entry,
    folder_entries,
    make_archive,
)

GIB = 1024**3


async def whole(archive: Archive, start: int = 0, end: int | None = None) -> bytes:
    pieces = [
        piece async for piece in archive.pieces(start, archive.size_bytes if end is None else end)
    ]
    return b"".join(pieces)


async def test_an_archive_is_what_it_says_and_any_part_of_it_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 10_000)
    with tarfile.open(tmp_path / "folder.tar", "w") as tar:
        tar.add(tmp_path / "a.bin", "deep/ä.bin")
    archive = make_archive(
        [
            file_entry(tmp_path / "a.bin", "a.bin", 1e9),
            Entry("b.txt", Content(5, b"hello"), 0.0),
            Entry("empty", Content(0), 1e9),
            *folder_entries(tmp_path / "folder.tar", "checkpoint-1", 1e9),
        ]
    )

    data = await whole(archive)
    (tmp_path / "z.zip").write_bytes(data)

    assert len(data) == archive.size_bytes
    assert hashlib.sha256(data).hexdigest() == archive.sha256
    with zipfile.ZipFile(tmp_path / "z.zip") as made:
        assert made.testzip() is None
        assert made.namelist() == ["a.bin", "b.txt", "empty", "checkpoint-1/deep/ä.bin"]
        assert made.read("checkpoint-1/deep/ä.bin") == bytes(range(256)) * 10_000
    for start in range(0, len(data), 49_999):
        assert await whole(archive, start, start + 50_000) == data[start : start + 50_000]


async def test_an_archive_that_is_being_sent_outlives_its_files(tmp_path: Path) -> None:
    names = ["a.bin", "b.bin"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 100)
    archive = make_archive([file_entry(tmp_path / name, name, 1e9) for name in names])
    sending = archive.pieces(0, archive.size_bytes)

    data = await anext(sending)
    for name in names:
        (tmp_path / name).unlink()
    data += b"".join([piece async for piece in sending])

    assert hashlib.sha256(data).hexdigest() == archive.sha256


async def test_s001_33_five_gib_take_no_memory_and_the_last_bytes_come_at_once(
    tmp_path: Path,
) -> None:
    # Sparse: it takes no room on the disk, and all its bytes are read all the same.
    with (tmp_path / "large.bin").open("wb") as file:
        file.seek(5 * GIB - 1)
        file.write(b"!")
    # The most there was at any time, not what is left of it.
    tracemalloc.start()
    try:
        archive = await asyncio.to_thread(
            make_archive, (file_entry(tmp_path / "large.bin", "large.bin", 1e9),)
        )
        tail = await whole(archive, archive.size_bytes - 1_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert archive.size_bytes > 5 * GIB
    assert peak_bytes < 100 * 1024**2
    with (tmp_path / "z.zip").open("wb") as file:
        head = await whole(archive, 0, 1_000)
        file.write(head)
        file.seek(archive.size_bytes - len(tail))
        file.write(tail)
    with zipfile.ZipFile(tmp_path / "z.zip") as made:
        assert made.getinfo("large.bin").file_size == 5 * GIB
        with made.open("large.bin") as content:
            assert content.read(100) == bytes(100)
