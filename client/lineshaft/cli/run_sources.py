"""Where runs are looked for: a coordinator over HTTP, or a folder of this machine."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, urlencode, urlsplit

from lineshaft.cli.daemons import need
from lineshaft.cli.exits import FailedError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from lineshaft_records.catalog import Catalog

ANSWER_S = 30.0
RECORD_MODULES = ("numpy", "pyarrow", "yaml")


class RunSource(Protocol):
    """Answers questions about runs, as `lineshaft_records.catalog.Catalog` words them."""

    def runs(
        self, *, experiment: str | None, status: str | None, tag: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """List runs."""
        ...

    def run(self, *, run: str) -> dict[str, Any]:
        """Tell all about one run."""
        ...

    def metrics(
        self, *, run: str, names: Sequence[str] | None, max_points: int | None
    ) -> dict[str, Any]:
        """Return curves."""
        ...

    def compare(self, *, runs: Sequence[str], names: Sequence[str] | None) -> dict[str, Any]:
        """Set runs side by side."""
        ...


@contextmanager
def source_of(folder: Path | None, url: str | None, token: str | None) -> Generator[RunSource]:
    """Ask the folder if one is named, else the coordinator.

    Raises:
        LineshaftError: There is no such folder, or no coordinator is known.
    """
    if folder is None:
        yield _Remote(url, token)
        return
    with catalog_of(folder) as catalog:
        yield catalog


@contextmanager
def catalog_of(folder: Path) -> Generator[Catalog]:
    """Open the runs of a folder.

    Raises:
        UsageError: There is no such folder.
        MissingExtraError: The libraries for it are not installed.
    """
    need("lineshaft runs --dir", "records", RECORD_MODULES)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; --dir takes one with experiments in it")
    from lineshaft_records.catalog import Catalog  # noqa: PLC0415 - takes long

    with closing(Catalog(folder)) as catalog:
        yield catalog


class _Remote:
    """A coordinator's runs."""

    def __init__(self, url: str | None, token: str | None) -> None:
        from lineshaft.cli.asking import whereabouts  # noqa: PLC0415 - takes long

        self._place = whereabouts(url, token)

    def runs(
        self, *, experiment: str | None, status: str | None, tag: str | None, limit: int
    ) -> list[dict[str, Any]]:
        asked = {"experiment": experiment, "status": status, "tag": tag, "limit": str(limit)}
        return cast("list[dict[str, Any]]", self._get("/api/v1/runs", asked))

    def run(self, *, run: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._get(f"/api/v1/runs/{quote(_name(run))}", {}))

    def metrics(
        self, *, run: str, names: Sequence[str] | None, max_points: int | None
    ) -> dict[str, Any]:
        points = None if max_points is None else str(max_points)
        asked = {"names": _joined(names), "max_points": points or "1000000"}
        path = f"/api/v1/runs/{quote(_name(run))}/metrics"
        return cast("dict[str, Any]", self._get(path, asked))

    def compare(self, *, runs: Sequence[str], names: Sequence[str] | None) -> dict[str, Any]:
        asked = {"runs": _joined([_name(run) for run in runs]), "names": _joined(names)}
        return cast("dict[str, Any]", self._get("/api/v1/compare", asked))

    def _get(self, path: str, asked: dict[str, str | None]) -> object:
        import http.client  # noqa: PLC0415 - nothing that `lineshaft up` should load

        tls = asyncio.run(self._place.trust())
        parts = urlsplit(self._place.url)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPConnection(host, port, timeout=ANSWER_S)
            if tls is None
            else http.client.HTTPSConnection(host, port, timeout=ANSWER_S, context=tls)
        )
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        headers = {"Authorization": f"Bearer {self._place.secret}"}
        try:
            connection.request("GET", f"{path}?{query}", headers=headers)
            answer = connection.getresponse()
            body: object = json.loads(answer.read())
        except (http.client.HTTPException, ValueError) as error:
            raise FailedError(f"{self._place.url} gave no answer about runs: {error}") from error
        except ConnectionError as error:
            raise FailedError(f"no coordinator answers at {self._place.url}: {error}") from error
        finally:
            connection.close()
        if answer.status == http.client.OK:
            return body
        text = str(cast("dict[str, object]", body).get("error", answer.reason))
        if answer.status == http.client.NOT_FOUND:
            raise NotFoundError(f"{text}; 'lineshaft runs list' lists what there is")
        raise FailedError(text)


def _joined(names: Sequence[str] | None) -> str | None:
    return None if names is None else ",".join(names)


def _name(run: str) -> str:
    """Return the name of a run without its experiment: the coordinator's are unique."""
    return run.rpartition("/")[2]
