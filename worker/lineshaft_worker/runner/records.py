"""What a runner leaves to be found by whoever comes after a crash."""

from collections.abc import Callable
from typing import NamedTuple, cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs


class CurrentAttempt(NamedTuple):
    """The attempt being executed, as it is in the `current` file."""

    ticket: int
    job_id: str
    attempt: int
    kind: str
    name: str
    run_s: float | None
    memory_bytes: int | None
    started_wall: float
    started_monotonic: float
    begins: list[int]

    def encode(self) -> bytes:
        """Return the record as bytes."""
        return _packb(self)


def decode_current(record: bytes) -> CurrentAttempt:
    """Return the record that `encode` was called on; written by us, so not doubted."""
    fields = cast("list[object]", _unpackb(record))
    return cast("Callable[..., CurrentAttempt]", CurrentAttempt)(*fields)


# The casts stand in for msgpack's missing stubs.
_packb = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpackb = cast("Callable[[bytes], object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]
