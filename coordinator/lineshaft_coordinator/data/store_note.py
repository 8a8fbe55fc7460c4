"""Which object store a data folder uses, on a file of its own beside the journal."""

import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lineshaft_coordinator.data.stored_objects import INDEX, read_index
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.durable import sync_path

FILE_NAME: Final = "blob-store.json"


class ObjectStoreSettingError(LineshaftError):
    """The data folder needs an object store that was not named."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(
            f"{count} blobs of this data folder lie in {url}; start with --blob-store {url}"
        )
        self.url, self.count = url, count


class StoreNoteDamagedError(LineshaftError):
    """The file cannot be read."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"{path} cannot be read: {detail}; take it from a backup")
        self.path, self.detail = path, detail


@dataclass(frozen=True, slots=True)
class StoreNote:
    """Whose the objects are."""

    path: Path
    url: str
    store_id: str
    """Made at random; stands in the store's marker as well."""
    is_claimed: bool
    """Whether the marker was there once, so that it must be there."""

    def saved(self, *, is_claimed: bool) -> "StoreNote":
        """Write it down: before the first marker is written, and once it is there.

        Raises:
            OSError: It cannot be written.
        """
        note = replace(self, is_claimed=is_claimed)
        draft = self.path.with_suffix(".part")
        facts = {"url": note.url, "store_id": note.store_id, "is_claimed": is_claimed}
        draft.write_text(json.dumps(facts) + "\n")
        sync_path(draft)
        draft.replace(self.path)
        sync_path(self.path.parent)
        return note


def read_note(data: Path) -> StoreNote | None:
    """Read which store a data folder or a backup uses; None if it never had one.

    Raises:
        StoreNoteDamagedError: It cannot be read.
    """
    path = data / FILE_NAME
    try:
        facts: dict[str, str] = json.loads(path.read_text())
        is_claimed = bool(facts["is_claimed"])
        return StoreNote(path, str(facts["url"]), str(facts["store_id"]), is_claimed=is_claimed)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreNoteDamagedError(path, str(error)) from error


def note_for(data: Path, url: str | None) -> StoreNote | None:
    """Say which store to use for a data folder; changes nothing.

    Args:
        data: The data folder.
        url: As it was set; None for files of the coordinator's own.

    Raises:
        ObjectStoreSettingError: Blobs lie in a store, and none was set.
        StoreNoteDamagedError: The note cannot be read.
    """
    note = read_note(data)
    count = len(read_index(data / "blobs" / INDEX)) if note is not None else 0
    if url is None:
        if note is not None and count:
            raise ObjectStoreSettingError(note.url, count)
        return None
    url = url.rstrip("/")
    if note is None or (note.url != url and not count):
        return StoreNote(data / FILE_NAME, url, secrets.token_hex(16), is_claimed=False)
    # Moved to another place, objects and marker together: the marker shows it.
    return replace(note, url=url)
