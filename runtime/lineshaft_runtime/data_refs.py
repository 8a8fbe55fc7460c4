"""Names of values that lie with the coordinator, and stand for them in the arguments of jobs.

Theory. A reference pickles as a call that loads the value, but only while the arguments of a job
are packed, which also collects the blobs that the job will need. Its worker has them linked into
the attempt's folder before the attempt begins, and unpickling maps them: nothing is copied, and
what the attempt changes is its own. Pickled in any other way, a reference remains one.

Imported by every runner: it stays small.
"""

from collections.abc import Generator
from contextlib import contextmanager

from lineshaft_runtime import spool
from lineshaft_runtime.collecting import COLLECTED, Collected
from lineshaft_runtime.mapped import mapped
from lineshaft_runtime.overriding import override
from lineshaft_runtime.packing import PackingError, unpack


class DataRef:
    """A value that is kept with the coordinator: an argument of jobs, sent to a worker once.

    Made by `Client.put`. A function that is called with it gets the value.
    """

    __slots__ = ("id", "size_bytes")

    def __init__(self, blob_id: str, size_bytes: int) -> None:
        self.id = blob_id
        """SHA-256 of the packed value: equal values have equal references."""
        self.size_bytes = size_bytes

    @override
    def __repr__(self) -> str:
        return f"<DataRef {self.id[:12]}, {self.size_bytes} bytes>"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataRef) and self.id == other.id

    @override
    def __hash__(self) -> int:
        return hash(self.id)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        collected = COLLECTED.get()
        if collected is None:
            return DataRef, (self.id, self.size_bytes)
        collected.refs[self.id] = None
        return load_value, (self.id,)


@contextmanager
def collected() -> Generator[Collected]:
    """Collect what is pickled meanwhile; references become the values they stand for."""
    found = Collected()
    token = COLLECTED.set(found)
    try:
        yield found
    finally:
        COLLECTED.reset(token)


def load_value(blob_id: str) -> object:
    """Return the value of a reference, in the attempt whose arguments have it.

    Raises:
        PackingError: This is no such attempt.
    """
    folder = spool.current().blobs
    try:
        return unpack(mapped(f"{folder}/{blob_id}"))
    except OSError as error:
        text = f"the value of DataRef {blob_id[:12]} is not here; pass it as an argument of the job"
        raise PackingError(text) from error
