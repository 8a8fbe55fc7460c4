"""What the coordinator asks of its durable store, whatever engine is behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lineshaft_protocol.values import value


@value()
class JobRow:
    """What a batch says about the row that queries see of one job.

    `finished_at`, `worker_id` and `error` may be `None`: the stored value stays. An empty string
    clears `worker_id` or `error`; it is read back as `None`. Going back to live (`is_live` after
    an end) clears `finished_at`.
    """

    job_id: str
    is_live: bool
    """Whether a restart must replay the job's records."""
    status: str
    name: str
    kind: str
    client_id: str
    submitted_at: float
    """Wall time in seconds; fixed by the first row of the job."""
    finished_at: float | None
    """Wall time in seconds."""
    worker_id: str | None
    attempt: int
    tags: str
    """Labels, joined by commas."""
    error: str | None
    owner: str = ""
    """Id of the token by which it was submitted, empty if that is not known; fixed by the first
    row of the job."""


@value()
class EventRow:
    """One event of one attempt, as the worker numbered it."""

    job_id: str
    attempt: int
    seq: int
    at: float
    """Wall time in seconds."""
    body: bytes


@value()
class Sought:
    """What listed jobs have in common, beside what columns hold exactly."""

    find: str = ""
    """A part of their id, their name or one of their tags; case does not matter in ASCII."""
    name: str = ""
    """A part of their name, likewise."""
    tag: str = ""
    """A whole tag."""
    owner: str = ""
    """Submitted by the token of this id."""
    since: float | None = None
    """Submitted then or later, in wall seconds."""


@value()
class Batch:
    """One transaction: all of it is kept, or nothing."""

    records: Sequence[tuple[str, float, bytes]] = ()
    """Job id, wall time in seconds, encoded record. The job has a row, here or from before."""
    rows: Sequence[JobRow] = ()
    """Inserted or updated; of several for one job the last wins."""
    events: Sequence[EventRow] = ()
    """An event that is there already (same job, attempt and seq) is left as it is."""


class Store(Protocol):
    """Keeps the coordinator's durable state; exactly one coordinator has it open.

    Whatever is damaged is refused with `StoreDamagedError`, by every method that reads it.
    """

    async def open(self) -> int:
        """Take the store, bring its schema up to date and begin a new epoch.

        Returns:
            The epoch: higher than every one returned before, on disk already.

        Raises:
            StoreError: See `store.errors`; nothing stays locked.
        """
        ...

    def live_records(self) -> Iterator[bytes]:
        """Read the records of all live jobs in the order they were appended; blocks on the disk."""
        ...

    async def append(self, batch: Batch) -> None:
        """Write one batch; returns when it is committed and synced.

        Concurrent appends share a commit and keep their order; when that commit fails, none of
        them is kept and each of them raises.

        Raises:
            StoreFullError: The disk is full; appends work again once there is room.
            StoreFailedError: The disk failed, the outcome is unknown; start again and replay.
        """
        ...

    async def records_of(self, job_id: str) -> list[tuple[int, float, bytes]]:
        """Read one job's story: position in the journal, wall time in seconds, encoded record."""
        ...

    async def scan(self, visit: Callable[[str, bytes], None]) -> None:
        """Show every record that is kept, live or not, with its job's id.

        What is appended or pruned meanwhile may be shown or not; all else is shown, in order.

        Args:
            visit: Called in a thread of the store's.

        Raises:
            StoreDamagedError: A record is not what was written; not all was shown.
        """
        ...

    async def scan_beginning(
        self, prefix: bytes, after: int | None, visit: Callable[[bytes], None]
    ) -> int:
        """Show the records that begin with a text and stand behind a position, in order.

        Args:
            prefix: How they begin.
            after: The position; ``None`` shows none of them.
            visit: Called in a thread of the store's.

        Returns:
            The position of the last record that there was when this began; 0 if there was none.

        Raises:
            StoreDamagedError: A record is not what was written; not all was shown.
        """
        ...

    async def row_of(self, job_id: str) -> JobRow | None:
        """Read one job's row; `None` if no such job was ever kept, or it was pruned."""
        ...

    def owner_of(self, job_id: str) -> str | None:
        """Read by which token a job was submitted, at once; blocks for a read of one row.

        Returns:
            As in its row: empty if that is not known. `None` if there is no such job.
        """
        ...

    async def rows(
        self,
        *,
        limit: int,
        status: str | None = None,
        client_id: str | None = None,
        kind: str | None = None,
        worker_id: str | None = None,
        is_live: bool | None = None,
        before: tuple[float, str] | None = None,
        sought: Sought | None = None,
    ) -> list[JobRow]:
        """List jobs, the last submitted first.

        Args:
            limit: How many at most, at least 1.
            status: Only jobs with this status; the other filters work alike.
            client_id: Who submitted it.
            kind: The kind of job.
            worker_id: Where it runs or ran last.
            is_live: Whether it has not ended.
            before: `(submitted_at, job_id)` of the last row of the page before.
            sought: What else they have in common; a text that few have is looked for in all of
                the history that the other filters leave.
        """
        ...

    async def rows_beginning(self, prefix: str, *, after: str = "", limit: int) -> list[JobRow]:
        """Read the rows of jobs whose ids begin with a text, in order of the ids.

        Args:
            prefix: The text; not empty.
            after: Only ids after this one.
            limit: The most to read.
        """
        ...

    async def counts(self) -> Mapping[str, int]:
        """Count the jobs by status."""
        ...

    async def events_of(
        self,
        job_id: str,
        *,
        after: tuple[int, int] = (-1, -1),
        limit: int = 1000,
        bytes_max: int | None = None,
    ) -> list[EventRow]:
        """Read events of a job in order of attempt and seq.

        Args:
            job_id: The job.
            after: Only events behind this (attempt, seq).
            limit: How many at most, at least 1.
            bytes_max: Stop at the one with which the bodies have this many bytes; `None`: never.
        """
        ...

    async def last_events_of(
        self, job_id: str, *, before: tuple[int, int], limit: int, bytes_max: int
    ) -> list[EventRow]:
        """Read events of a job backwards: the last before this (attempt, seq) first.

        Args:
            job_id: The job.
            before: Only events in front of this (attempt, seq).
            limit: How many at most, at least 1.
            bytes_max: Stop at the one with which the bodies have this many bytes.
        """
        ...

    async def prune(self, *, finished_before: float, limit: int) -> int:
        """Forget finished jobs with their records and events, the longest finished first.

        Args:
            finished_before: Wall time in seconds; what finished then or later stays.
            limit: How many jobs at most.

        Returns:
            How many jobs were forgotten.
        """
        ...

    async def backup(self, target: Path) -> None:
        """Write a verified copy to a new file while appends go on.

        Raises:
            BackupExistsError: There is a file at `target` already.
            StoreFullError: No room for the copy; nothing is left of it.
        """
        ...

    async def close(self) -> None:
        """Finish what was asked before, then give the store free; safe to call twice."""
        ...
