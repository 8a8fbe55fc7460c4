"""What is asked about runs, answered in words of JSON."""

import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lineshaft_coordinator.recorder.job_run import JobRun
from lineshaft_coordinator.recorder.previews import preview
from lineshaft_coordinator.recorder.seed_words import seed_preview, seed_rows, told_row
from lineshaft_records.catalog import Catalog
from lineshaft_records.errors import NoSuchExperimentError, NoSuchRunError, RecordsError
from lineshaft_records.layout import RunFolder
from lineshaft_records.rows import Row

logger = logging.getLogger(__name__)

REPLAYS = 5


class Answers:
    """Answers in threads that do nothing else; tables are looked into in several at a time.

    Args:
        base: Where experiments lie.
        live: Runs that are recorded now, by job; only looked at.
        ended: Runs that ended a moment ago while somebody looked at their rows.
    """

    def __init__(self, base: Path, live: Mapping[str, JobRun], ended: Mapping[str, JobRun]) -> None:
        self._live, self._ended = live, ended
        self._catalog = Catalog(base, last_of=self._last_of)

    def close(self) -> None:
        """Give the index back."""
        self._catalog.close()

    def folder(self, run: str) -> RunFolder:
        """Return where a run lies; raises NoSuchRunError."""
        return self._catalog.folder(run)

    def answer(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return `{}` and the answer as JSON, or `{"error": …, "status": …}` as HTTP has them."""
        catalog = self._catalog
        questions: dict[str, Callable[..., object]] = {
            "runs": catalog.runs,
            "run": catalog.run,
            "metrics": self._metrics,
            "histograms": catalog.histograms,
            "compare": catalog.compare,
            "experiments": catalog.experiments,
            "experiment": catalog.experiment,
            "stats": catalog.stats,
            "text": catalog.text,
            "path": catalog.path,
            "log_path": catalog.log_path,
            "tail": self._tail,
            "replay": self._replay,
            "preview": preview,
            "seed_rows": self._seed_rows,
            "seed_preview": seed_preview,
            "plain_files": catalog.plain_files,
        }
        try:
            data = questions[message["ask"]](**message.get("with", {}))
            text = _json(data)
        except NoSuchRunError as error:
            # Not where it was looked for: that is a path of the coordinator's machine.
            return {"error": f"there is no run {error.name!r}", "status": 404}, b""
        except NoSuchExperimentError as error:
            return {"error": f"there is no experiment {error.name!r}", "status": 404}, b""
        except ValueError as error:
            return {"error": str(error), "status": 400}, b""
        except (OSError, sqlite3.Error, RecordsError) as error:
            return {"error": str(error), "status": 500}, b""
        except Exception as error:
            # Records of others hold whatever they hold: who asks is answered, and not left waiting.
            logger.exception("a question about runs has no answer", extra={"ask": message["ask"]})
            return {"error": f"it cannot be told: {error}", "status": 500}, b""
        return {}, text.encode()

    def _metrics(self, *, run: str, **about: Any) -> dict[str, Any]:
        """Curves, and up to which event of the job they are sure to be whole; None: all there is.

        Looked at before the files: what is written meanwhile may be in them, never missing.
        """
        live = self._live.get(run)
        upto = list(live.place) if live is not None else None
        return self._catalog.metrics(run=run, **about) | {"upto": upto}

    def _seed_rows(self, **about: Any) -> list[dict[str, Any]]:
        """Rows of a run in the words of seed 004."""
        return seed_rows(self._catalog.rows(**about))

    def _replay(self, *, run: str, max_points: int) -> dict[str, Any]:
        """Rows so far, and the place behind them; no place: there will be no others."""
        name = run.rpartition("/")[2]
        place: tuple[int, int] | None = None
        rows: list[dict[str, Any]] = []
        for _ in range(REPLAYS):
            found = self._live.get(name) or self._ended.get(name)
            place = None if found is None else found.place
            rows = self._seed_rows(run=run, max_points=max_points)
            # What is written while it is read may be among the rows, and comes again: once more,
            # and in the end rather twice than never.
            if found is None or found.place == place:
                break
        return {"place": place, "rows": rows}

    def _tail(self, *, run: str, after: Sequence[int] = ()) -> dict[str, Any]:
        """Recent rows behind a place; `place` is where they end, no place: they are not known.

        `floor` is where the recent rows begin: who is not there yet has missed some.
        """
        name = run.rpartition("/")[2]
        live = self._live.get(name)
        found = live or self._ended.get(name)
        if found is None:
            self._catalog.folder(run)
            return {"is_open": False, "place": None, "floor": None, "rows": []}
        found.watched_at = time.monotonic()
        # The rows first: what goes meanwhile is told as a gap, and never missing in silence.
        place = found.place
        rows: list[tuple[tuple[int, int], Row]] = list(found.recent)
        return {
            "is_open": live is not None,
            "place": rows[-1][0] if rows else place,
            "floor": found.floor,
            "rows": [(where, told_row(row)) for where, row in rows if where > tuple(after)],
        }

    def _last_of(self, run: str) -> Mapping[str, float | str] | None:
        found = self._live.get(run)
        return None if found is None else dict(found.writer.last)


def _json(data: object) -> str:
    try:
        return _spelled(data)
    except (TypeError, ValueError):
        # Only what has something that JSON does not is walked through: a list of runs has half a
        # million values.
        return _spelled(finite(data))


def _spelled(data: object) -> str:
    return json.dumps(data, allow_nan=False, separators=(",", ":"), default=str)


def finite(data: object) -> object:
    """Return data with NaN and infinities as texts: JSON has neither."""
    match data:
        case float() if not math.isfinite(data):
            return str(data)
        case list() | tuple():
            return [finite(each) for each in cast("list[object]", data)]
        case dict():
            items = cast("dict[object, object]", data).items()
            return {str(key): finite(each) for key, each in items}
        case _:
            return data
