"""What goes from a worker's cache when room is needed, and what stays."""

from pathlib import Path

from lineshaft_protocol.ids import BlobId
from lineshaft_worker.daemon.cache import CODE_BYTES_MAX, MEMORY_BYTES_MAX, BlobCache

A, B, C = (BlobId(letter * 64) for letter in "abc")


def put(cache: BlobCache, blob_id: BlobId) -> None:
    draft = cache.draft(blob_id, "x")
    draft.write_bytes(bytes(100))
    cache.keep(blob_id, draft)


def test_the_least_used_goes_first_and_nothing_that_a_job_holds(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=200)
    cache.hold(A)
    for blob_id in (A, B, C):
        put(cache, blob_id)
    cache.content(B)
    cache.hold(C)

    gone = cache.release(C)

    assert gone == [C]
    assert [blob_id for blob_id in (A, B, C) if blob_id in cache] == [A, B]
    assert not cache.path(C).exists()


def test_a_value_is_put_once_however_often_it_is_kept(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=200)
    for _ in range(3):
        put(cache, A)
    put(cache, B)
    cache.hold(B)

    assert cache.release(B) == []


def test_of_many_functions_only_the_ones_used_last_are_in_memory(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=10 * MEMORY_BYTES_MAX)
    names = [BlobId(f"{n:064x}") for n in range(2 * MEMORY_BYTES_MAX // CODE_BYTES_MAX)]
    for blob_id in names:
        draft = cache.draft(blob_id, "x")
        draft.write_bytes(bytes(CODE_BYTES_MAX))
        cache.keep(blob_id, draft)
        assert len(cache.content(blob_id)) == CODE_BYTES_MAX  # type: ignore[arg-type]  # bytes

    # What is in memory is there though somebody removed its file.
    for blob_id in names:
        cache.path(blob_id).unlink()
    in_memory = [blob_id for blob_id in names if _is_readable(cache, blob_id)]
    assert in_memory == names[len(names) // 2 :]


def _is_readable(cache: BlobCache, blob_id: BlobId) -> bool:
    try:
        return isinstance(cache.content(blob_id), bytes)
    except OSError:
        return False
