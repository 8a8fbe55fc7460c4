"""Blobs handed over as files: a peer of the same machine, its coordinator, and a real folder."""

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lineshaft_coordinator.data.blob_errors import BlobMismatchError, BlobStoreFullError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.handover import Porch
from lineshaft_coordinator.data.transfers import Transfers
from lineshaft_protocol.blob_messages import (
    BlobHere,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
    SameHost,
    SameHostFolder,
)
from lineshaft_protocol.client_messages import Finished
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire
from lineshaft_runtime.mapped import mapped
from lineshaft_runtime.same_host import (
    FILE_BYTES_MIN,
    SECRET_FILE,
    SameHostFiles,
    boot_id,
    bytes_into,
)

CONTENT = hashlib.shake_128(b"same host").digest(FILE_BYTES_MIN + 7)
BLOB_ID = BlobId(hashlib.sha256(CONTENT).hexdigest())
FEATURES = ("same_host",)


class Pair:
    """A peer and a coordinator, with a wire between them that delivers at once."""

    def __init__(self, folder: Path, *, with_porch: bool = True) -> None:
        self.store = make_store(folder)
        self.folder = folder
        self.porch = Porch(folder / "porch") if with_porch else None
        self.told: list[Wire] = []
        self.asked: list[Wire] = []
        self.connect()

    def connect(self) -> None:
        self.transfers = Transfers(self.store, self, self.porch)
        self.files = SameHostFiles(self._ask)

    def _ask(self, message: SameHost | BlobOffer | FetchBlob) -> None:
        self.asked.append(message)
        self.transfers.on_message(message)

    def send(self, message: Wire) -> None:
        self.told.append(message)
        match message:
            case SameHostFolder() | BlobHere() | BlobStatus() | BlobRefused() | BlobMissing():
                self.files.on_message(message)
            case _:
                pass

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        raise AssertionError(f"{len(buffers)} buffers went over the connection")

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    @property
    def is_writable(self) -> bool:
        return True

    def laid_down(self) -> list[Path]:
        return [each for each in (self.folder / "porch").glob("*/*") if each.name != SECRET_FILE]


def make_store(folder: Path) -> BlobStore:
    return BlobStore(folder, blob_bytes_max=1 << 20, total_bytes_max=1 << 21, free_bytes_min=1)


async def test_a_blob_is_handed_over_and_found_again_without_a_byte_on_the_wire(
    tmp_path: Path,
) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)

    assert await pair.files.give(BLOB_ID, len(CONTENT), bytes_into(CONTENT))
    path = await pair.files.find(BLOB_ID, len(CONTENT))

    assert path is not None
    assert mapped(path) == CONTENT
    assert pair.store.read(BLOB_ID, 0, len(CONTENT)) == CONTENT
    assert pair.laid_down() == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


async def test_a_mapped_blob_can_be_changed_without_an_effect_on_the_store(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)
    await pair.files.give(BLOB_ID, len(CONTENT), bytes_into(CONTENT))
    path = await pair.files.find(BLOB_ID, None)
    assert path is not None

    mapped(path)[:4] = b"mine"

    assert path.read_bytes() == CONTENT


async def test_many_who_give_the_same_blob_lay_it_down_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)

    gifts = [pair.files.give(BLOB_ID, len(CONTENT), bytes_into(CONTENT)) for _ in range(5)]

    assert await asyncio.gather(*gifts) == [True] * 5
    assert sum(isinstance(each, BlobOffer) for each in pair.asked) == 1


def finished(blob_id: str, size_bytes: int) -> Finished:
    result = Payload(blob=blob_id, size_bytes=size_bytes)
    return Finished(outcome=Outcome(job_id="j", status="succeeded", attempt=1, result=result))


async def test_who_is_told_of_a_blob_is_told_first_where_it_lies_and_need_not_ask(
    tmp_path: Path,
) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)
    await pair.files.give(BLOB_ID, len(CONTENT), bytes_into(CONTENT))
    message = finished(BLOB_ID, len(CONTENT))

    told = pair.transfers.with_paths([message])
    for each in told[:-1]:
        pair.send(each)
    path = await pair.files.find(BLOB_ID, len(CONTENT))

    assert [type(each) for each in told] == [BlobHere, Finished]
    assert path is not None
    assert mapped(path) == CONTENT
    assert not any(isinstance(each, FetchBlob) for each in pair.asked)


async def test_no_path_is_told_to_a_peer_that_has_proven_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.store.put_bytes(CONTENT)
    message = finished(BLOB_ID, len(CONTENT))

    assert pair.transfers.with_paths([message]) == [message]


async def test_no_path_is_told_of_a_short_blob_or_one_that_is_gone(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)
    messages = [finished(pair.store.put_bytes(b"short"), 5), finished(BLOB_ID, len(CONTENT))]

    assert pair.transfers.with_paths(messages) == messages


async def test_a_path_that_was_told_is_forgotten_with_the_connection(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)
    pair.send(BlobHere(blob_id=BLOB_ID, size_bytes=len(CONTENT), path="/where/it/was"))
    pair.files.on_disconnected()
    pair.connect()
    pair.files.on_connected(FEATURES)

    assert await pair.files.find(BLOB_ID, len(CONTENT)) is None
    assert isinstance(pair.told[-1], BlobMissing)


def _strange_boot(pair: Pair) -> None:
    assert pair.porch is not None
    pair.porch.boot_id = "of another machine"


def _hidden_folder(pair: Pair) -> None:
    # As from within another container: the boot id is the same, the folder is not there.
    assert pair.porch is not None
    answer = pair.transfers._handover.answer(SameHost(boot_id=boot_id()))
    assert answer.folder is not None
    (Path(answer.folder) / SECRET_FILE).unlink()


def _no_porch(pair: Pair) -> None:
    pair.porch = None
    pair.connect()


@pytest.mark.parametrize("spoil", [_strange_boot, _hidden_folder, _no_porch])
async def test_who_is_not_on_this_machine_uses_the_connection(
    tmp_path: Path, spoil: Callable[[Pair], None]
) -> None:
    pair = Pair(tmp_path)
    spoil(pair)

    pair.files.on_connected(FEATURES)

    assert not pair.files.is_open
    assert not await pair.files.give(BLOB_ID, len(CONTENT), bytes_into(CONTENT))
    assert await pair.files.find(BLOB_ID, None) is None


async def test_a_coordinator_without_the_feature_is_not_asked(tmp_path: Path) -> None:
    pair = Pair(tmp_path)

    pair.files.on_connected(("blobs",))

    assert pair.asked == []


async def test_a_peer_that_proves_nothing_can_neither_give_nor_find(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    guess = SameHost(boot_id=boot_id(), secret="0" * 32)

    pair.transfers.on_message(SameHost(boot_id=boot_id()))
    pair.told.clear()
    pair.transfers.on_message(guess)
    pair.transfers.on_message(FetchBlob(blob_id=BLOB_ID, as_file=True))
    pair.transfers.on_message(BlobOffer(blob_id=BLOB_ID, size_bytes=9, file="0" * 32))
    await asyncio.gather(*pair.transfers._adoptions)

    folder, missing, refused = pair.told
    assert folder == SameHostFolder()
    assert missing == BlobMissing(blob_id=BLOB_ID)
    assert isinstance(refused, BlobRefused)
    assert "no files are taken" in refused.message


async def test_a_session_that_ends_leaves_nothing_on_the_porch(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)
    folder = next((tmp_path / "porch").iterdir())
    (folder / ("0" * 32)).write_bytes(CONTENT)

    pair.files.on_disconnected()
    pair.transfers.close()

    assert not folder.exists()
    assert not await pair.files.give(BLOB_ID, len(CONTENT), bytes_into(CONTENT))


async def test_a_gift_that_a_cut_interrupts_goes_over_the_next_connection(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.files.on_connected(FEATURES)

    def cut(path: Path) -> None:
        bytes_into(CONTENT)(path)
        loop.call_soon_threadsafe(pair.files.on_disconnected)

    loop = asyncio.get_running_loop()

    assert not await pair.files.give(BLOB_ID, len(CONTENT), cut)
    assert not pair.store.is_complete(BLOB_ID)


def test_a_new_coordinator_clears_what_the_last_one_left(tmp_path: Path) -> None:
    left = tmp_path / "porch" / "session" / "file"
    left.parent.mkdir(parents=True)
    left.write_bytes(CONTENT)

    Porch(tmp_path / "porch")

    assert not left.exists()


def _shorter(path: Path) -> None:
    path.write_bytes(CONTENT[:-1])


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(CONTENT)
    path.symlink_to(target)


def _nothing(path: Path) -> None:
    del path


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("lay_down", [_shorter, _link, _nothing, _pipe])
def test_what_is_not_the_file_that_was_said_is_refused_and_removed(
    tmp_path: Path, lay_down: Callable[[Path], None]
) -> None:
    store, path = make_store(tmp_path / "blobs"), tmp_path / "given"
    lay_down(path)

    with pytest.raises(BlobMismatchError):
        store.adopt(BLOB_ID, path, len(CONTENT))

    assert not os.path.lexists(path)
    assert not store.is_complete(BLOB_ID)
    assert store.total_bytes == 0


def test_a_file_beyond_the_limit_is_refused_and_removed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=9)
    path = tmp_path / "given"
    path.write_bytes(CONTENT)

    with pytest.raises(BlobStoreFullError):
        store.adopt(BLOB_ID, path, len(CONTENT))

    assert not path.exists()
    assert store.total_bytes == 0


def test_a_file_completes_an_upload_that_was_under_way(tmp_path: Path) -> None:
    store, path = make_store(tmp_path / "blobs"), tmp_path / "given"
    path.write_bytes(CONTENT)
    store.begin(BLOB_ID, len(CONTENT))
    store.write(BLOB_ID, 0, CONTENT[:100])

    store.adopt(BLOB_ID, path, len(CONTENT))

    assert store.read(BLOB_ID, 0, len(CONTENT)) == CONTENT
    assert store.total_bytes == len(CONTENT)
    assert list((tmp_path / "blobs" / "partial").iterdir()) == []


def test_a_file_of_an_hour_ago_is_a_young_blob_once_it_is_adopted(tmp_path: Path) -> None:
    store, path = make_store(tmp_path / "blobs"), tmp_path / "given"
    path.write_bytes(CONTENT)
    os.utime(path, (time.time() - 3600, time.time() - 3600))

    store.adopt(BLOB_ID, path, len(CONTENT))

    assert store.collect(set(), older_than_s=1800, now=time.time()).count == 0
    assert store.is_complete(BLOB_ID)


def test_what_an_earlier_process_left_of_an_upload_goes_when_the_file_is_adopted(
    tmp_path: Path,
) -> None:
    earlier, path = make_store(tmp_path / "blobs"), tmp_path / "given"
    earlier.begin(BLOB_ID, len(CONTENT))
    earlier.write(BLOB_ID, 0, CONTENT[:100])
    path.write_bytes(CONTENT)

    make_store(tmp_path / "blobs").adopt(BLOB_ID, path, len(CONTENT))

    assert list((tmp_path / "blobs" / "partial").iterdir()) == []
