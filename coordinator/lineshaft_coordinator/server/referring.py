"""Whether the blobs that jobs name are here; each of them is kept young by being asked for."""

from collections.abc import Callable

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_protocol.jobs import JobSpec


class Referring:
    """Looks for the blobs of jobs.

    Args:
        blobs: Where they lie.
        moment: A number that is another one with each batch of the core.
    """

    def __init__(self, blobs: BlobStore, moment: Callable[[], float]) -> None:
        self._blobs, self._moment = blobs, moment
        self._seen: tuple[str, float] | None = None
        """The code that was named last, and at which moment: it is here, and young."""

    def missing(self, job: JobSpec) -> str | None:
        """Name a blob that the job needs and that is not here; None if it has all of them."""
        code = job.code
        # Code comes again with thousands of jobs: once in each moment will do.
        seen = self._seen
        is_seen = seen is not None and seen[0] == code and seen[1] == self._moment()
        for blob_id in job.blobs:
            if is_seen and blob_id == code:
                continue
            if not self._blobs.refer(blob_id):
                return blob_id
        if code is not None and not is_seen:
            self._seen = (code, self._moment())
        return None
