"""Holds what should lie in the object store against what does."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from lineshaft_runtime.object_errors import ObjectStoreError, ObjectStoreUnreachableError
from lineshaft_runtime.object_store import ObjectStore, object_name

LOOKS_AT_A_TIME = 8


def object_problems(
    store: ObjectStore, sizes: Mapping[str, int], *, reads_all: bool = False
) -> list[str]:
    """Look for each object; blocks, changes nothing.

    Args:
        store: Where they should be.
        sizes: Their lengths in bytes, by the names of their blobs.
        reads_all: Whether to read them and compare their hashes.

    Returns:
        What is wrong; only that the store is away, if it is.
    """

    def look(blob_id: str) -> str | None:
        try:
            if reads_all:
                store.get(blob_id, lambda _: None)
                return None
            found = store.size(blob_id)
        except ObjectStoreUnreachableError:
            raise
        except ObjectStoreError as error:
            return str(error)
        where = f"{store.url}/{object_name(blob_id)}"
        if found is None:
            return f"{where} is missing"
        if found != sizes[blob_id]:
            return f"{where} has {found} bytes, not {sizes[blob_id]}"
        return None

    with ThreadPoolExecutor(LOOKS_AT_A_TIME) as pool:
        try:
            return [text for text in pool.map(look, sizes) if text is not None]
        except ObjectStoreUnreachableError as error:
            pool.shutdown(cancel_futures=True)
            return [str(error)]
