"""All runs of a folder, asked in the words that commands and HTTP use: plain values for JSON."""

import codecs
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from lineshaft_records.documents import read_info, read_yaml, spell_time
from lineshaft_records.errors import NoSuchRunError
from lineshaft_records.histograms import told_histogram
from lineshaft_records.index import Index, Listed
from lineshaft_records.layout import RunFolder, experiment_folder, experiments, run_folder
from lineshaft_records.media import MEDIA
from lineshaft_records.reading import Attempts, Points, RunReader
from lineshaft_records.side_tables import HISTOGRAMS, read_rows
from lineshaft_records.system_curves import PREFIX, SystemNames, system_curves
from lineshaft_records.thinning import POINTS_MIN

POINTS: Final = 2000
TEXT_BYTES: Final = 512 * 1024
METRICS_MAX: Final = 1000
HISTOGRAMS_MAX: Final = 200
PLAIN_FILES: Final = ("run.log", "console.log", "vectors.parquet", "run.yaml", "config.yaml")
"""What seed 004 lists of a run besides its artifacts."""
MORE_FILES: Final = ("histograms.parquet", "system.parquet", "provenance.yaml")
STALE_S: Final = 120.0
"""A run that goes on says so every 30 s."""


class Catalog:
    """Answers questions about runs.

    Args:
        base: Where experiments lie.
        last_of: The last values of a run that is recorded now, by its name; None if it is not.
            Without it, the index is compared with the files before each list.
    """

    def __init__(
        self, base: Path, last_of: Callable[[str], Mapping[str, float | str] | None] | None = None
    ) -> None:
        self._base = base
        self._index = Index(base)
        self._last_of = last_of
        self._system_names = SystemNames()

    def close(self) -> None:
        """Give the index back."""
        self._index.close()

    def rebuild(self) -> int:
        """Make the index again from the files; returns how many runs there are."""
        return self._index.rebuild()

    def runs(
        self,
        *,
        experiment: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """List runs, the last begun first, with their last values."""
        self._refresh()
        found = self._index.listed(
            experiment=experiment, status=status, tag=tag, limit=limit, offset=offset
        )
        return [self._view(each) for each in found]

    def run(self, *, run: str) -> dict[str, Any]:
        """Tell all about one run.

        Raises:
            NoSuchRunError: There is none of that name.
        """
        listed = self._found(run)
        reader = RunReader(self.folder(run))
        rows, names = reader.shape()
        view = self._view(listed) | {"rows": rows, "metrics": names}
        view["system"] = self._system_names.of(reader.folder)
        return view | {"config": reader.config(), "artifacts": reader.artifacts()}

    def metrics(
        self,
        *,
        run: str,
        names: Sequence[str] | None = None,
        since_step: int | None = None,
        until_step: int | None = None,
        max_points: int | None = POINTS,
        attempts: Attempts = "newest",
        system: bool = False,
    ) -> dict[str, Any]:
        """Return curves, thinned if they are long.

        Args:
            run: Which run.
            names: Which metrics; `sys/…` are those of its machine, as `sys/cpu.util_pct`.
            since_step: Only points with a higher step; those of the machine have none.
            until_step: Only points up to this step, likewise.
            max_points: At most so many of each.
            attempts: Whether a step that a later attempt did again is left out.
            system: Whether all there is of the machine is told besides.

        Raises:
            NoSuchRunError: There is none of that name.
        """
        reader = RunReader(self.folder(run))
        wanted = list(names) if names is not None else reader.names()[:METRICS_MAX]
        of_machine = None if system else [each for each in wanted if each.startswith(PREFIX)]
        points = reader.points(
            wanted,
            since_step=since_step,
            until_step=until_step,
            max_points=max_points,
            attempts=attempts,
        )
        curves = {
            name: {
                "steps": each.steps,
                "values": each.values,
                "times": each.times,
                "attempts": each.attempts,
                "there_are": each.there_are,
                "label": each.label,
            }
            for name, each in points.items()
        }
        curves |= system_curves(self.folder(run), of_machine, max_points)
        return {"run": run, "metrics": curves}

    def histograms(
        self, *, run: str, tag: str | None = None, limit: int = HISTOGRAMS_MAX
    ) -> dict[str, Any]:
        """Return the last histograms that a run told, all or those of one tag, in order.

        Raises:
            NoSuchRunError: There is none of that name.
        """
        rows = read_rows(self.folder(run), HISTOGRAMS)
        wanted = [row for row in rows if tag is None or row.values.get("tag") == tag]
        return {
            "run": run,
            "tags": sorted({str(row.values.get("tag")) for row in rows}),
            "there_are": len(wanted),
            "histograms": [told_histogram(row) for row in wanted[-limit:]],
        }

    def compare(self, *, runs: Sequence[str], names: Sequence[str] | None = None) -> dict[str, Any]:
        """Set runs side by side: parameters that differ, and the extremes of each metric.

        Raises:
            NoSuchRunError: One of them is not there.
        """
        listed = [self._found(run) for run in runs]
        params = {
            key: [each.params.get(key) for each in listed] for each in listed for key in each.params
        }
        table: dict[str, list[dict[str, Any] | None]] = {}
        for place, run in enumerate(runs):
            reader = RunReader(self.folder(run))
            wanted = list(names) if names is not None else reader.names()[:METRICS_MAX]
            # Thinned as much as may be: the lowest, the highest and the last are always kept.
            for name, points in reader.points(wanted, max_points=POINTS_MIN).items():
                row = table.setdefault(name, [None] * len(listed))
                row[place] = _summary(points)
        return {
            "runs": [self._view(each) for each in listed],
            "params": params,
            "differing": sorted(k for k, v in params.items() if any(each != v[0] for each in v)),
            "metrics": table,
        }

    def experiments(self) -> list[dict[str, Any]]:
        """List experiments, with what their experiment.yaml says."""
        self._refresh()
        counts = self._index.counts()
        return [
            {"id": path.name, **_said_of(path), "runs_count": counts.get(path.name, 0)}
            for path in experiments(self._base)
        ]

    def experiment(self, *, experiment: str) -> dict[str, Any]:
        """Tell what experiment.yaml says.

        Raises:
            NoSuchExperimentError: There is none of that name.
        """
        return _said_of(experiment_folder(self._base, experiment))

    def stats(self, *, experiment: str | None = None) -> dict[str, Any]:
        """Count runs and bytes, of all or of one experiment."""
        self._refresh()
        listed = self._index.listed(experiment=experiment, limit=1_000_000)
        projects = {each["project"] for each in self.experiments() if each["project"]}
        return {
            "total_experiments": len({each.experiment for each in listed}),
            "total_projects": len(projects),
            "total_runs": len(listed),
            "active_runs": sum(each.status == "RUNNING" for each in listed),
            "stale_runs": sum(self._is_stale(each) for each in listed),
            "total_storage_bytes": sum(each.size_bytes for each in listed),
        }

    def text(self, *, run: str, file: str = "run.log", offset: int = 0) -> dict[str, Any]:
        """Return a piece of run.log or console.log, an empty one from behind its end.

        Raises:
            NoSuchRunError: There is no such run.
            ValueError: It is another file.
        """
        try:
            with Path(self.log_path(run=run, file=file)).open("rb") as stream:
                # Where there is nothing, not every file system lets one go.
                stream.seek(min(offset, os.fstat(stream.fileno()).st_size))
                data = stream.read(TEXT_BYTES)
        except FileNotFoundError:
            data = b""
        # A character that the piece cuts in two is told with the next one.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text = decoder.decode(data)
        return {"text": text, "offset": offset + len(data) - len(decoder.getstate()[0])}

    def log_path(self, *, run: str, file: str) -> str:
        """Return where run.log or console.log lies, or would.

        Raises:
            NoSuchRunError: There is no such run.
            ValueError: It is another file.
        """
        if file not in ("run.log", "console.log"):
            raise ValueError(f"a run has run.log and console.log, not {file[:40]!r}")
        return str(self.folder(run).path / file)

    def path(self, *, run: str, file: str) -> str | None:
        """Return where an artifact lies, a file below media/, or one of the run's own files.

        None if it is not there, or outside of the run.

        Raises:
            NoSuchRunError: There is no such run.
        """
        folder = self.folder(run)
        places = (
            (folder.artifacts, folder.artifacts / file),
            (folder.path / MEDIA, folder.path / file),
        )
        for below, place in places:
            path = place.resolve()
            if path.is_relative_to(below.resolve()) and path.is_file():
                return str(path)
        own = folder.path / file if file in (*PLAIN_FILES, *MORE_FILES) else None
        return str(own) if own is not None and own.is_file() else None

    def rows(
        self, *, run: str, since_step: int | None = None, max_points: int | None = POINTS
    ) -> list[dict[str, Any]]:
        """Return whole rows, thinned if they are many, as seed 004 has them.

        Raises:
            NoSuchRunError: There is none of that name.
        """
        table = RunReader(self.folder(run)).rows(since_step=since_step, max_points=max_points)
        names = [name for name in table.column_names if name != "attempt"]
        columns = [table.column(name).to_pylist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def plain_files(self, *, run: str) -> list[dict[str, Any]]:
        """List the files that a run has besides its artifacts.

        Raises:
            NoSuchRunError: There is no such run.
        """
        folder = self.folder(run).path
        found = [folder / name for name in PLAIN_FILES]
        return [
            {"path": each.name, "size_bytes": each.stat().st_size}
            for each in found
            if each.is_file()
        ]

    def folder(self, run: str) -> RunFolder:
        """Return where a run lies: by its name, or `experiment/name`.

        Raises:
            NoSuchRunError: There is none of that name.
        """
        listed = self._found(run)
        return run_folder(self._base, listed.experiment, listed.run)

    def _found(self, name: str) -> Listed:
        experiment, slash, run = name.rpartition("/")
        for is_fresh in (False, True):
            if is_fresh:
                self._index.refresh()
            found = self._index.find(run, experiment if slash else None)
            if found:
                # Of several with one name the last begun.
                return max(found, key=lambda each: each.started_at)
        raise NoSuchRunError(name[:200], self._base)

    def _is_stale(self, listed: Listed) -> bool:
        """Whether a run says that it goes on, and nobody said so for long."""
        if listed.status != "RUNNING":
            return False
        info = read_info(run_folder(self._base, listed.experiment, listed.run))
        at = info.heartbeat_at or info.started_at
        return (datetime.now(UTC) - at).total_seconds() > STALE_S

    def _refresh(self) -> None:
        if self._last_of is None:
            self._index.refresh()

    def _view(self, listed: Listed) -> dict[str, Any]:
        last = self._last_of(listed.run) if self._last_of is not None else None
        return {
            "run": listed.run,
            "experiment": listed.experiment,
            "status": listed.status,
            "started_at": spell_time(listed.started_at),
            "finished_at": spell_time(listed.finished_at),
            "duration_s": listed.duration_secs,
            "tags": list(listed.tags),
            "description": listed.description,
            "params": listed.params,
            "last": listed.last if last is None else last,
            "size_bytes": listed.size_bytes,
            **listed.facts,
        }


def _said_of(path: Path) -> dict[str, Any]:
    try:
        said = read_yaml(path / "experiment.yaml")
    except (OSError, ValueError):
        said = {}
    # People write it by hand: `project: 2026` is a number to YAML, and a name to all who read it.
    words = {key: said.get(key) for key in ("display_name", "description", "project")}
    facts: dict[str, Any] = {k: None if word is None else str(word) for k, word in words.items()}
    tags = said.get("tags")
    facts["tags"] = list(map(str, cast("list[object]", tags))) if isinstance(tags, list) else []
    return facts


def _summary(points: Points) -> dict[str, Any]:
    values = points.values
    numbers = [each for each in values if isinstance(each, float) and each == each]  # noqa: PLR0124 - NaN is not
    low, high = (min(numbers), max(numbers)) if numbers else (None, None)
    last = values[-1] if values else None
    return {"last": last, "min": low, "max": high, "count": points.there_are}
