"""What can be wrong with a store, and what to do about it."""

from pathlib import Path

from lineshaft_protocol.errors import LineshaftError


class StoreError(LineshaftError):
    """The store cannot do what it was asked."""


class StoreLockedError(StoreError):
    """Another coordinator has the data folder."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"{folder} is in use by {holder}; stop that coordinator first, "
            "or give this one a data folder of its own"
        )
        self.folder, self.pid = folder, pid


class StoreNotWritableError(StoreError):
    """The data folder cannot be created or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"cannot write in {folder}: {reason}; "
            "give the coordinator a folder that its user may write"
        )
        self.folder, self.reason = folder, reason


class StoreOnNetworkError(StoreError):
    """The data folder is on a file system whose locks and syncs cannot be trusted."""

    def __init__(self, folder: Path, filesystem: str) -> None:
        super().__init__(
            f"{folder} is on a {filesystem} file system, where locks and syncs may not hold; "
            "use a local disk (or allow it explicitly, at your own risk)"
        )
        self.folder, self.filesystem = folder, filesystem


class StoreDamagedError(StoreError):
    """A file of the store does not hold what was written to it."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(
            f"{path} is damaged: {detail}; nothing was changed. Keep a copy of its folder, "
            "then restore the last backup"
        )
        self.path, self.detail = path, detail


class UnreadableRecordError(StoreError):
    """A record is not one that this version knows."""

    def __init__(self, job_id: str | None, detail: str) -> None:
        of_job = "" if job_id is None else f" of job {job_id}"
        super().__init__(
            f"a record{of_job} cannot be read: {detail}; if a newer version of Lineshaft wrote it, "
            "start that one again"
        )
        self.job_id, self.detail = job_id, detail


class StoreVersionError(StoreError):
    """The store was written by a newer version of Lineshaft."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema version {found}, this version knows up to {known}; "
            "start the newer version again, or restore a backup from before the upgrade"
        )
        self.path, self.found, self.known = path, found, known


class StoreFullError(StoreError):
    """There is no room on the disk; what was to be written is not kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"no room left on the disk of {folder}; free some and try again")
        self.folder = folder


class StoreFailedError(StoreError):
    """The disk or the database engine failed; what is on disk is no longer known."""

    def __init__(self, folder: Path, detail: str) -> None:
        super().__init__(
            f"the store in {folder} failed: {detail}; "
            "check the disk and start the coordinator again, it replays what was kept"
        )
        self.folder, self.detail = folder, detail


class StoreClosedError(StoreError):
    """The store is not open."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"the store in {folder} is not open")
        self.folder = folder


class BackupExistsError(StoreError):
    """A backup never replaces a file."""

    def __init__(self, target: Path) -> None:
        super().__init__(f"{target} exists already; name a new file for the backup")
        self.target = target
