"""What all runs of a folder are, in one SQLite file that is made again from the files at any time.

Who lists runs looks here first; a run whose files changed since is read again.
"""

import json
import os
import sqlite3
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, cast

from lineshaft_records.documents import RunInfo, plain, read_info, read_time, read_yaml, spell_time
from lineshaft_records.layout import INDEX_NAME, RunFolder, runs

VERSION: Final = 4
_COLUMNS: Final = (
    "experiment, run, status, started_at, finished_at, duration_secs, stamp, size_bytes, tags,"
    " description, facts, params, names, texts, numbers"
)
_PLACES: Final = ", ".join("?" * (_COLUMNS.count(",") + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run, as lists show it."""

    experiment: str
    run: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    duration_secs: float | None
    tags: tuple[str, ...]
    description: str | None
    facts: Mapping[str, object]
    """What else its run.yaml says: group, rank, heartbeat_at, language."""
    params: Mapping[str, object]
    last: Mapping[str, float | str]
    """The last value of each metric."""
    size_bytes: int


class Index:
    """The index of one folder of experiments.

    Args:
        base: The folder. Where it cannot be written, the index is kept in memory.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        path = self._base / INDEX_NAME
        for target in (str(path), ":memory:"):
            with suppress(sqlite3.Error, OSError):
                return self._prepared(target)
            # A damaged index is worth nothing: all of it is in the files.
            with suppress(OSError):
                path.unlink()
            with suppress(sqlite3.Error, OSError):
                return self._prepared(target)
        raise sqlite3.OperationalError(f"no index can be made for {self._base}")

    def _prepared(self, target: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            target, isolation_level=None, timeout=10, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                connection.execute("DROP TABLE IF EXISTS runs")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            # What may be long comes last, and not into the tree of keys: to compare stamps, its
            # pages are never touched. The last values are columns of their own: the names, which
            # runs of one kind share, their numbers, and a text wherever one is no number.
            connection.execute(
                "CREATE TABLE IF NOT EXISTS runs (experiment TEXT NOT NULL, run TEXT NOT NULL,"
                " status TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT,"
                " duration_secs REAL, stamp TEXT NOT NULL, size_bytes INTEGER NOT NULL,"
                " tags TEXT NOT NULL, description TEXT, facts TEXT NOT NULL, params TEXT NOT NULL,"
                " names TEXT NOT NULL, texts TEXT NOT NULL, numbers BLOB NOT NULL,"
                " PRIMARY KEY (experiment, run))"
            )
            connection.execute(
                "CREATE INDEX IF NOT EXISTS runs_begun ON runs (started_at DESC, run DESC)"
            )
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def refresh(self) -> int:
        """Read again what changed, forget what is gone; returns how many runs that were."""
        found = self._connection.execute("SELECT experiment, run, stamp FROM runs")
        known = {(experiment, run): stamp for experiment, run, stamp in found.fetchall()}
        changed = 0
        with self._at_once():
            for folder in runs(self._base):
                stamp = _stamp(folder)
                if known.pop((folder.experiment, folder.name), None) != stamp:
                    self._put(folder, stamp)
                    changed += 1
            for key in known:
                self._connection.execute("DELETE FROM runs WHERE experiment = ? AND run = ?", key)
                changed += 1
        return changed

    def rebuild(self) -> int:
        """Make all of it again from the files; returns how many runs there are."""
        with self._at_once():
            self._connection.execute("DELETE FROM runs")
        return self.refresh()

    def note(self, folder: RunFolder) -> None:
        """Read one run again."""
        with self._at_once():
            self._put(folder, _stamp(folder))

    def listed(
        self,
        *,
        experiment: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        limit: int = 1000,
        offset: int = 0,
    ) -> list[Listed]:
        """List runs, the last begun first.

        Args:
            experiment: Only of this one.
            status: Only with this status.
            tag: Only with this label.
            limit: How many at most.
            offset: How many to leave out at the beginning.
        """
        clauses: list[str] = []
        values: list[object] = []
        for column, value in (("experiment", experiment), ("status", status)):
            if value is not None:
                clauses.append(f"{column} = ?")
                values.append(value)
        if tag is not None:
            clauses.append("EXISTS (SELECT 1 FROM json_each(runs.tags) WHERE value = ?)")
            values.append(tag)
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM runs {where} ORDER BY started_at DESC, run DESC"  # noqa: S608 - our own column names
            " LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return _all_listed(found)

    def find(self, run: str, experiment: str | None = None) -> list[Listed]:
        """Return the runs of a name."""
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE run = ? AND (? IS NULL OR experiment = ?)",  # noqa: S608 - as above
            (run, experiment, experiment),
        )
        return _all_listed(found)

    def counts(self) -> dict[str, int]:
        """Count the runs of each experiment."""
        found = self._connection.execute("SELECT experiment, count(*) FROM runs GROUP BY 1")
        return dict(found.fetchall())

    def _put(self, folder: RunFolder, stamp: str) -> None:
        info: RunInfo = read_info(folder)
        try:
            params = read_yaml(folder.config)
        except (OSError, ValueError):
            params = {}
        self._connection.execute(
            f"INSERT OR REPLACE INTO runs ({_COLUMNS}) VALUES ({_PLACES})",  # noqa: S608 - as above
            (
                folder.experiment,
                folder.name,
                info.status,
                spell_time(info.started_at),
                spell_time(info.finished_at),
                info.duration_secs,
                stamp,
                _size(folder),
                json.dumps(info.tags),
                info.description,
                json.dumps(_facts(info)),
                json.dumps(plain(params)),
                *_packed(info.vectors),
            ),
        )

    @contextmanager
    def _at_once(self) -> Generator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _stamp(folder: RunFolder) -> str:
    """Return a text that changes whenever the files do that are read for the index."""
    marks: list[str] = []
    # Thousands of runs are looked at for a list: no objects for their paths.
    place = str(folder.path)
    for name in ("run.yaml", "config.yaml", "metrics.parquet"):
        try:
            status = os.stat(f"{place}/{name}")  # noqa: PTH116 - see above
            marks.append(f"{status.st_mtime_ns}.{status.st_size}.{status.st_ino}")
        except OSError:
            marks.append("-")
    return "/".join(marks)


def _size(folder: RunFolder) -> int:
    """Return how many bytes the files of a run have; one with two names counts once."""
    seen: dict[int, int] = {}
    for path in folder.path.rglob("*"):
        with suppress(OSError):
            status = path.lstat()
            if path.is_file():
                seen[status.st_ino] = status.st_size
    return sum(seen.values())


def _facts(info: RunInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "group": info.group,
        "rank": info.rank,
        "heartbeat_at": spell_time(info.heartbeat_at),
        "language": info.language,
    }


def _packed(last: Mapping[str, float | str]) -> tuple[str, str, bytes]:
    """Return last values as the index keeps them: names, texts by their place, numbers."""
    texts = {place: each for place, each in enumerate(last.values()) if isinstance(each, str)}
    numbers = [0.0 if isinstance(each, str) else each for each in last.values()]
    packed = struct.pack(f"<{len(numbers)}d", *numbers)
    return json.dumps([*last]), json.dumps(list(texts.items())), packed


def _all_listed(found: sqlite3.Cursor) -> list[Listed]:
    # Runs of one kind have the same metrics: their names are read once, and kept once.
    known: dict[str, list[str]] = {}
    return [_listed(row, known) for row in found]


def _listed(row: tuple[object, ...], known: dict[str, list[str]]) -> Listed:
    experiment, run, status, started, finished, seconds, _, size, tags, description = row[:10]
    facts, params, names, texts, numbers = row[10:]
    began = read_time(started)
    assert began is not None, "the index keeps times that it wrote itself"
    return Listed(
        experiment=str(experiment),
        run=str(run),
        status=str(status),
        started_at=began,
        finished_at=read_time(finished),
        duration_secs=cast("float | None", seconds),
        tags=tuple(json.loads(str(tags))),
        description=cast("str | None", description),
        facts=json.loads(str(facts)),
        params=json.loads(str(params)),
        last=_unpacked(str(names), str(texts), cast("bytes", numbers), known),
        size_bytes=cast("int", size),
    )


def _unpacked(
    names: str, texts: str, numbers: bytes, known: dict[str, list[str]]
) -> dict[str, float | str]:
    called = known.get(names)
    if called is None:
        called = known[names] = json.loads(names)
    values = struct.unpack(f"<{len(called)}d", numbers)
    last: dict[str, float | str] = dict(zip(called, values, strict=True))
    for place, text in json.loads(texts):
        last[called[place]] = text
    return last
