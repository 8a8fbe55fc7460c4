"""What goes from a worker's cache when room is needed, and what stays."""

from pathlib import Path

from lineshaft_protocol.ids import BlobId
from lineshaft_worker.daemon.cache import BlobCache

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
