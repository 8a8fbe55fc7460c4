"""The files of a pipeline job: found, held against the limits, read.

A folder is searched before anything is read. What git ignores is left out, by the `.gitignore`
files in it and above it up to the repository's folder; what is named itself is always taken. Only
plain files can be sent: a link is followed if it leads to a file of the same folder.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from typing_extensions import override

from lineshaft.errors import InvalidJobError
from lineshaft_runtime.bundles import CONTENT_BYTES_MAX, FILES_MAX
from lineshaft_runtime.sizes import size_text

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

FilesLike: TypeAlias = "Mapping[str, bytes | str | Path] | Iterable[str | Path] | str | Path"
"""Names in the job with contents or paths; or just paths, or one, which keep their names."""

LEFT_OUT: Final = frozenset(
    {".git", "__pycache__", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hg", ".svn"}
)
IGNORE_FILE: Final = ".gitignore"
NAMED_MAX: Final = 5
"""Largest files and folders that a refusal names."""


class Found(NamedTuple):
    """A file to be sent."""

    name: str
    """In the job."""
    path: Path
    size_bytes: int
    is_executable: bool = False


class FilesError(InvalidJobError):
    """Files of a job cannot be sent; the text says which, and what to do."""


class NoFileError(FilesError, FileNotFoundError):
    """A file of a job is not here."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"there is no {path} here; files= takes paths below {Path.cwd()}, absolute paths, or "
            "contents by name: files={'name.txt': 'content'}"
        )
        self.path = path

    @override
    def __reduce__(self) -> tuple[type[NoFileError], tuple[Path]]:
        """Survive pickling, though it makes its text itself."""
        return NoFileError, (self.path,)


class JobFiles(NamedTuple):
    """The files of a job, read."""

    contents: tuple[tuple[str, bytes], ...]
    executables: tuple[str, ...]
    """Names of those that their owner can execute."""


def read_files(files: FilesLike) -> JobFiles:
    """Read all files of a job.

    Raises:
        NoFileError: A file is not there.
        FilesError: There are too many or too large ones, or one is no plain file.
        OSError: A file cannot be read.
    """
    given: list[tuple[str, bytes]] = []
    found: list[Found] = []
    for name, content in _named(files):
        if isinstance(content, Path):
            found += find(content, name)
        else:
            given.append((name, content))
        # A folder and a file in it may both be named; what differs is refused with the bundle.
        found = list({(each.name, each.path.resolve()): each for each in found}.values())
        check_amount(found)
    read = [(each.name, _read(each.path)) for each in found]
    return JobFiles((*given, *read), tuple(each.name for each in found if each.is_executable))


def find(path: Path, name: str) -> Iterator[Found]:
    """Find a file, or all files of a folder that git does not ignore.

    Args:
        path: Where to look.
        name: What to call it in the job; `""` for a folder whose files lie at the top.

    Raises:
        NoFileError: It is not there.
        FilesError: One is no plain file, or there are too many.
        OSError: It cannot be looked at.
    """
    if path.is_dir():
        yield from _Walk(path).find("" if name in {"", "."} else f"{name}/")
    else:
        try:
            info = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NoFileError(path) from None
        if not stat.S_ISREG(info.st_mode):
            raise FilesError(f"{path} is no file but {_kind(info.st_mode)}, which cannot be sent")
        yield Found(name, path, info.st_size, _is_executable(info))


def check_amount(found: list[Found]) -> None:
    """Refuse what is more than a job may have, with the largest named.

    Raises:
        FilesError: It is more.
    """
    total_bytes = sum(each.size_bytes for each in found)
    if total_bytes <= CONTENT_BYTES_MAX:
        return
    largest = sorted(found, key=lambda each: each.size_bytes, reverse=True)[:NAMED_MAX]
    named = ", ".join(f"{each.path} ({size_text(each.size_bytes)})" for each in largest)
    raise FilesError(
        f"the files of the job have {size_text(total_bytes)}, and at most "
        f"{size_text(CONTENT_BYTES_MAX)} can be sent. The largest are {named}. {_WAY_OUT}"
    )


def _named(files: FilesLike) -> Iterator[tuple[str, bytes | Path]]:
    if isinstance(files, str | Path):
        files = (files,)
    if not isinstance(files, Mapping):
        for path in map(Path, files):
            # A name that leads out of this folder is refused with the bundle.
            yield (path.name if path.is_absolute() else path.as_posix()), path
        return
    for name, content in cast("Mapping[str, bytes | str | Path]", files).items():
        yield name, content.encode() if isinstance(content, str) else content


def _is_executable(info: os.stat_result) -> bool:
    return bool(info.st_mode & stat.S_IXUSR)


def _read(path: Path) -> bytes:
    # Not through a pipe or device that took the place of the file meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FilesError(f"{path} is no longer a file")
        return file.read()


class _Walk:
    """Goes through one folder."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._real_top = top.resolve()
        self._count = 0
        self._counts: Counter[str] = Counter()

    def find(self, prefix: str) -> Iterator[Found]:
        """Yield the files in order of their names."""
        for path in self._files(self._real_top, _rules_above(self._real_top)):
            inner = path.relative_to(self._real_top).as_posix()
            self._note(inner)
            info = path.stat()
            yield Found(f"{prefix}{inner}", path, info.st_size, _is_executable(info))

    def _files(self, folder: Path, rules: tuple[_Rules, ...]) -> Iterator[Path]:
        own = _rules_of(folder)
        rules = rules if own is None else (*rules, own)
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        for entry in inside:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in LEFT_OUT or _is_ignored(Path(entry.path), rules, is_folder=is_folder):
                continue
            if is_folder:
                yield from self._files(Path(entry.path), rules)
            elif entry.is_file(follow_symlinks=False) or self._is_good_link(entry):
                yield Path(entry.path)

    def _is_good_link(self, entry: os.DirEntry[str]) -> bool:
        """Say whether it leads to a file of this folder; False if it leads nowhere."""
        path = Path(entry.path)
        if not entry.is_symlink():
            kind = _kind(entry.stat(follow_symlinks=False).st_mode)
            raise FilesError(f"{path} is no file but {kind}, which cannot be sent. {_WAY_OUT}")
        target = path.resolve()
        if not target.exists():
            return False  # As editors leave them beside what they have open.
        if not target.is_relative_to(self._real_top) or not target.is_file():
            what = "a folder" if target.is_dir() else "something outside of the folder"
            raise FilesError(f"{path} is a link to {what}, and links are not sent. {_WAY_OUT}")
        return True

    def _note(self, inner: str) -> None:
        self._count += 1
        folder = inner.rpartition("/")[0]
        self._counts[folder] += 1
        if self._count > FILES_MAX:
            most = ", ".join(
                f"{self._top / folder} ({count})"
                for folder, count in self._counts.most_common(NAMED_MAX)
            )
            raise FilesError(
                f"{self._top} has more than {FILES_MAX} files, which is all a job may have. "
                f"Most of those seen are in {most}. {_WAY_OUT}"
            )


class _Rules(NamedTuple):
    """One `.gitignore`."""

    folder: Path
    spec: GitIgnoreSpec


def _is_ignored(path: Path, rules: tuple[_Rules, ...], *, is_folder: bool) -> bool:
    # The deepest file that says anything decides, as in git.
    for folder, spec in reversed(rules):
        inner = path.relative_to(folder).as_posix()
        verdict = spec.check_file(f"{inner}/" if is_folder else inner).include
        if verdict is not None:
            return verdict
    return False


def _rules_of(folder: Path) -> _Rules | None:
    try:
        lines = (folder / IGNORE_FILE).read_text(errors="replace").splitlines()
    except OSError:
        return None
    # Only those who have such a file pay for the import.
    from pathspec import GitIgnoreSpec  # noqa: PLC0415

    return _Rules(folder, GitIgnoreSpec.from_lines(lines))


def _rules_above(top: Path) -> tuple[_Rules, ...]:
    """Return the rules between the repository's folder and this one, outermost first."""
    above = [top, *top.parents]
    root = next((index for index, folder in enumerate(above) if (folder / ".git").exists()), 0)
    rules: list[_Rules] = []
    for folder in reversed(above[1 : root + 1]):
        own = _rules_of(folder)
        if own is not None:
            rules.append(own)
    # Who names an ignored folder wants it: then the rules above do not count inside.
    return () if _is_ignored(top, tuple(rules), is_folder=True) else tuple(rules)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


_WAY_OUT: Final = (
    "Leave it out with a line in .gitignore, name just the files that the job needs, or have the "
    "job read large data from where its worker can reach them."
)
