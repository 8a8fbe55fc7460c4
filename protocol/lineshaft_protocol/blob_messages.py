"""Control messages that move blobs; their bytes travel in binary frames (``frames``)."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from lineshaft_protocol.ids import Digest
from lineshaft_protocol.wire import NUMBER_MAX, Wire

FileName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""Made up at random by whoever makes the file."""


class BlobOffer(Wire):
    """I have this blob; where shall I begin?"""

    type: Literal["BlobOffer"] = "BlobOffer"
    blob_id: Digest
    size_bytes: int = Field(ge=0, le=NUMBER_MAX)
    file: FileName | None = None
    """The file in the folder of ``SameHostFolder`` that is all of it; no chunks follow."""
    is_in_store: bool | None = None
    """Whether it was put into the object store of ``Registered``; no chunks follow, and
    ``BlobInStore`` is the answer."""


class BlobStatus(Wire):
    """How much of an offered blob is stored: all of it, verified, once ``is_complete``."""

    type: Literal["BlobStatus"] = "BlobStatus"
    blob_id: Digest
    received_bytes: int = Field(ge=0, le=NUMBER_MAX)
    is_complete: bool


class BlobRefused(Wire):
    """The blob cannot be stored."""

    type: Literal["BlobRefused"] = "BlobRefused"
    blob_id: Digest
    message: str


class FetchBlob(Wire):
    """Send me this blob from this offset on."""

    type: Literal["FetchBlob"] = "FetchBlob"
    blob_id: Digest
    offset: int = Field(default=0, ge=0, le=NUMBER_MAX)
    as_file: bool = False
    """Whether to say by ``BlobHere`` where it lies, instead of sending it."""
    in_store: bool | None = None
    """Whether to say by ``BlobInStore`` if the object store has it, instead of sending it."""


class BlobMissing(Wire):
    """There is no such blob here."""

    type: Literal["BlobMissing"] = "BlobMissing"
    blob_id: Digest
    reason: str | None = Field(default=None, max_length=2000)
    """Why it cannot be had, where there is more to say: the object store is away, perhaps."""


class BlobAck(Wire):
    """Bytes taken in by the receiver; the sender keeps at most a window beyond it in flight."""

    type: Literal["BlobAck"] = "BlobAck"
    blob_id: Digest
    received_bytes: int = Field(ge=0, le=NUMBER_MAX)


class SameHost(Wire):
    """I may be on your machine: may blobs be handed over as files?

    Only to a coordinator with the feature ``same_host``. First with the boot id alone; then with
    what was in the file that the answer names, which proves that both see one file system.
    """

    type: Literal["SameHost"] = "SameHost"
    boot_id: str = Field(max_length=64)
    """Of the running kernel, as ``/proc/sys/kernel/random/boot_id`` has it."""
    secret: FileName | None = None


class SameHostFolder(Wire):
    """The answer to a SameHost: where to prove it, then where to lay files down."""

    type: Literal["SameHostFolder"] = "SameHostFolder"
    folder: str | None = Field(default=None, max_length=4096)
    """None: blobs go over the connection. The file ``secret`` in it is to be read."""
    is_proven: bool = False
    """Whether files may be laid there, and blobs fetched with ``as_file``."""
    free_bytes_min: int = Field(default=0, ge=0, le=NUMBER_MAX)
    """Room that whoever writes there leaves on the disk."""


class BlobHere(Wire):
    """The blob lies in this file: link, copy or map it, and never write to it.

    Also unasked, right before a message that names the blob, to who has proven to be there.
    """

    type: Literal["BlobHere"] = "BlobHere"
    blob_id: Digest
    size_bytes: int = Field(ge=0, le=NUMBER_MAX)
    path: str = Field(max_length=4096)


class BlobStoreNotice(Wire):
    """Where large blobs lie, for who has credentials of its own and can reach it."""

    url: str = Field(max_length=2000)
    """As fsspec has it, or ``file:///FOLDER``; no credentials are in it."""
    store_id: str = Field(max_length=64)
    """What the marker there says; another id, or none, means another place of that name."""
    bytes_min: int = Field(ge=0, le=NUMBER_MAX)
    """Shorter blobs are not put there."""


class BlobInStore(Wire):
    """Whether the object store has a blob: the answer to ``in_store`` and ``is_in_store``."""

    type: Literal["BlobInStore"] = "BlobInStore"
    blob_id: Digest
    size_bytes: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    """Its length; ``None`` if it is not there, for all the coordinator knows."""
