"""What readers and writers of run records may want to catch."""

from pathlib import Path

from lineshaft_protocol.errors import LineshaftError


class RecordsError(LineshaftError):
    """Something about a run record is not as it must be."""


class MissingPartError(RecordsError):
    """A library that this needs is not installed."""

    def __init__(self, what: str, module: str, install: str = "'lineshaft[records]'") -> None:
        super().__init__(f"{what} needs {module}; install it with: pip install {install}")
        self.what, self.module = what, module


class NoSuchRunError(RecordsError):
    """There is no run of that name."""

    def __init__(self, name: str, where: Path) -> None:
        super().__init__(f"there is no run {name!r} below {where}")
        self.name, self.where = name, where


class NoSuchExperimentError(RecordsError):
    """There is no experiment of that name."""

    def __init__(self, name: str, where: Path) -> None:
        super().__init__(f"there is no experiment {name!r} below {where}")
        self.name, self.where = name, where


class RunExistsError(RecordsError):
    """A run of that name is there already, and would be mixed with the new one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} holds a run already; choose another name, or none")
        self.folder = folder


class BadNameError(RecordsError):
    """A name cannot be that of a folder of a record."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} cannot name {what}: it must have 1 to 200 characters, none of them "
            "a slash or a control character, and not begin with a dot"
        )
        self.name = name


class DamagedRecordError(RecordsError):
    """A file of a record cannot be read."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"{path} cannot be read: {detail}")
        self.path, self.detail = path, detail
