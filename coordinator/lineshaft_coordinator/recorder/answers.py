"""What is asked about runs, answered in words of JSON."""

import json
import math
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from lineshaft_coordinator.recorder.job_run import JobRun
from lineshaft_records.catalog import Catalog
from lineshaft_records.errors import NoSuchRunError, RecordsError


class Answers:
    """Answers in a thread of its own.

    Args:
        base: Where experiments lie.
        live: Runs that are recorded now, by job; only looked at.
    """

    def __init__(self, base: Path, live: Mapping[str, JobRun]) -> None:
        self._live = live
        self._catalog = Catalog(base, last_of=self._last_of)

    def close(self) -> None:
        """Give the index back."""
        self._catalog.close()

    def answer(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return `{}` and the answer as JSON, or `{"error": …, "status": …}` as HTTP has them."""
        catalog = self._catalog
        questions: dict[str, Callable[..., object]] = {
            "runs": catalog.runs,
            "run": catalog.run,
            "metrics": self._metrics,
            "compare": catalog.compare,
            "experiments": catalog.experiments,
            "stats": catalog.stats,
            "text": catalog.text,
            "path": catalog.path,
        }
        try:
            data = questions[message["ask"]](**message.get("with", {}))
            text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"), default=str)
        except NoSuchRunError as error:
            return {"error": str(error), "status": 404}, b""
        except ValueError as error:
            return {"error": str(error), "status": 400}, b""
        except (OSError, sqlite3.Error, RecordsError) as error:
            return {"error": str(error), "status": 500}, b""
        return {}, text.encode()

    def _metrics(self, *, run: str, **about: Any) -> dict[str, Any]:
        """Curves, and up to which event of the job they are sure to be whole; None: all there is.

        Looked at before the files: what is written meanwhile may be in them, never missing.
        """
        live = self._live.get(run)
        upto = list(live.place) if live is not None else None
        return self._catalog.metrics(run=run, **about) | {"upto": upto}

    def _last_of(self, run: str) -> Mapping[str, float | str] | None:
        found = self._live.get(run)
        return None if found is None else dict(found.writer.last)


def finite(data: object) -> object:
    """Return data with NaN and infinities as texts: JSON has neither."""
    match data:
        case float() if not math.isfinite(data):
            return str(data)
        case list():
            return [finite(each) for each in cast("list[object]", data)]
        case dict():
            items = cast("dict[object, object]", data).items()
            return {str(key): finite(each) for key, each in items}
        case _:
            return data
