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
        if code is not None and not self._is_here(code):
            return code
        # Most jobs name nothing else.
        if job.payload.blob is None and job.files is None and job.environment is None:
            return None
        for blob_id in job.blobs:
            if blob_id != code and not self._blobs.refer(blob_id):
                return blob_id
        return None

    def _is_here(self, code: str) -> bool:
        # Code comes again with thousands of jobs: once in each moment will do.
        asked = code, self._moment()
        if asked == self._seen:
            return True
        is_here = self._blobs.refer(code)
        if is_here:
            self._seen = asked
        return is_here
