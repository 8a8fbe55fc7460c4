"""What can be wrong with an object store, and what to do about it."""

from lineshaft_protocol.errors import LineshaftError


class ObjectStoreError(LineshaftError):
    """The object store cannot do what it was asked."""


class ObjectStoreUrlError(ObjectStoreError):
    """A URL names no object store that could be used here."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"{url!r} cannot be used as an object store: {detail}")
        self.url, self.detail = url, detail


class ObjectStoreTakenError(ObjectStoreError):
    """The place belongs to another coordinator."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"{url} holds the blobs of another coordinator, which would collect ours; name another "
            "folder or prefix with --blob-store"
        )
        self.url = url


class ObjectStoreUnreachableError(ObjectStoreError):
    """The object store does not answer, or does not let us in."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"the object store {url} cannot be used now: {detail}")
        self.url, self.detail = url, detail


class ObjectMissingError(ObjectStoreError):
    """There is no such object."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(f"{url}/{name} is gone; somebody else than Lineshaft removed it")
        self.url, self.name = url, name


class ObjectDamagedError(ObjectStoreError):
    """An object is not the blob that its name says."""

    def __init__(self, url: str, name: str, detail: str) -> None:
        super().__init__(f"{url}/{name} is damaged: {detail}")
        self.url, self.name, self.detail = url, name, detail
