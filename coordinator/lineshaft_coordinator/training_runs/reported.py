"""Runs that programs report over HTTP, and that no job of ours runs."""

import asyncio
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.feeds.hub import Ear, Hub
from lineshaft_coordinator.feeds.told import Ended, Place
from lineshaft_coordinator.store.errors import StoreError
from lineshaft_coordinator.training_runs.book import RunBook
from lineshaft_coordinator.training_runs.words import (
    ENDED,
    Status,
    metrics_of,
    outcome_of,
    timestamp,
    values_of,
)
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.outcomes import Outcome

_COLUMNS: Final = (
    "id, user_id, name, model_type, model_version_id, dataset_id, status, config, latest_metrics,"
    " started_at, completed_at, created_at"
)
_JSON: Final = ("config", "latest_metrics")
_TIMES: Final = ("started_at", "completed_at", "created_at")
PAGE_EVENTS: Final = 500
_BEHIND: Final = "AND seq > ? ORDER BY seq LIMIT ?"

RunView = dict[str, JsonValue]
"""A run as seed 000 shows it."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a program says of the run that it begins."""

    name: str
    model_type: str
    config: Mapping[str, JsonValue]
    model_version_id: str | None = None
    dataset_id: str | None = None


class ReportedRuns:
    """Keeps what is reported, then tells who looks.

    It is the source of their feeds, too: what is on the disk is told, in the order it got there.
    """

    def __init__(self, book: RunBook) -> None:
        self._book = book
        self.hub = Hub(self)
        """Who looks at reported runs."""

    # --- for programs ---

    async def create(self, new: NewRun, *, user_id: str) -> RunView:
        """Begin a run."""
        now = time.time()
        run_id = str(uuid.uuid4())
        row = (
            *(run_id, user_id, new.name, new.model_type, new.model_version_id, new.dataset_id),
            *("running", json.dumps(dict(new.config)), None, now, None, now),
        )
        sql = f"INSERT INTO runs ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constants
        await self._book.do(lambda connection: connection.execute(sql, row))
        view = await self.get(run_id)
        assert view is not None, "it was just made"
        return view

    async def get(self, run_id: str) -> RunView | None:
        """One run; None if there is no such one."""
        return await self._book.do(lambda connection: _run_of(connection, run_id))

    async def listed(
        self, *, user_id: str | None, status: Status | None, limit: int
    ) -> list[RunView]:
        """Runs, the newest first; of one user, or of all."""
        where = ["1" if user_id is None else "user_id = ?", "1" if status is None else "status = ?"]
        values = [each for each in (user_id, status) if each is not None]
        sql = (
            f"SELECT {_COLUMNS} FROM runs WHERE {' AND '.join(where)}"  # noqa: S608 - constants
            " ORDER BY created_at DESC, id DESC LIMIT ?"
        )

        def read(connection: sqlite3.Connection) -> list[RunView]:
            return [_view(cells) for cells in connection.execute(sql, (*values, limit))]

        return await self._book.do(read)

    async def delete(self, run_id: str) -> None:
        """Forget a run and its metrics; who looks is told that there is none."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM metrics WHERE run_id = ?", (run_id,))
            connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))

        await self._book.do(forget)
        self.hub.forget(run_id)

    async def end(self, run_id: str, status: Status) -> RunView | None:
        """End a run. The first end counts: one that has ended stays as it is."""
        assert status in ENDED, f"{status} is no end"
        now = time.time()

        def change(connection: sqlite3.Connection) -> tuple[bool, RunView | None]:
            changed = connection.execute(
                "UPDATE runs SET status = ?, completed_at = ? WHERE id = ?"
                " AND status IN ('pending', 'running')",
                (status, now, run_id),
            )
            return changed.rowcount == 1, _run_of(connection, run_id)

        has_ended, view = await self._book.do(change)
        if has_ended:
            self.hub.publish(run_id, (_ended(run_id, status, now),))
        return view

    async def record(
        self, run_id: str, values: Mapping[str, JsonValue], custom: JsonValue
    ) -> RunView | None:
        """Keep metrics in seed 000's words, and tell them; None if there is no such run."""
        now = time.time()
        step = values.get("step")
        body: dict[str, JsonValue] = {"metrics": metrics_of(values), "step": step}
        if custom is not None:
            body["custom"] = custom
        shown = shown_metrics(body, now)

        def keep(connection: sqlite3.Connection) -> tuple[int, bool] | None:
            run = _run_of(connection, run_id)
            if run is None:
                return None
            (last,) = connection.execute(
                "SELECT max(seq) FROM metrics WHERE run_id = ?", (run_id,)
            ).fetchone()
            seq = (last or 0) + 1
            row = (run_id, seq, now, json.dumps(body))
            connection.execute("INSERT INTO metrics VALUES (?, ?, ?, ?)", row)
            connection.execute(
                "UPDATE runs SET latest_metrics = ?,"
                " status = CASE status WHEN 'pending' THEN 'running' ELSE status END WHERE id = ?",
                (json.dumps(shown), run_id),
            )
            return seq, run["status"] not in ENDED

        kept = await self._book.do(keep)
        if kept is None:
            return None
        seq, goes_on = kept
        if goes_on:
            self.hub.publish(run_id, (_event(run_id, seq, now, body),))
        return shown

    async def metrics(self, run_id: str, *, limit: int) -> list[JsonValue]:
        """All that was recorded, in order."""
        sql = "SELECT at, body FROM metrics WHERE run_id = ? ORDER BY seq LIMIT ?"

        def read(connection: sqlite3.Connection) -> list[JsonValue]:
            rows = connection.execute(sql, (run_id, limit))
            return [shown_metrics(json.loads(body), at) for at, body in rows]

        return await self._book.do(read)

    async def counts(self) -> dict[str, int]:
        """How many there are of each status."""
        sql = "SELECT status, count(*) FROM runs GROUP BY status"
        return await self._book.do(lambda connection: dict(connection.execute(sql).fetchall()))

    # --- as the source of feeds ---

    def watch(self, job_id: str, ear: Ear) -> Callable[[], None]:
        """Tell where a run is, soon; its news is published to the hub by itself."""
        task = asyncio.create_task(self._tell(job_id, ear))

        def stop() -> None:
            task.cancel()

        return stop

    async def _tell(self, run_id: str, ear: Ear) -> None:
        sql = "SELECT status, completed_at FROM runs WHERE id = ?"
        try:
            found: tuple[str, float | None] | None = await self._book.do(
                lambda connection: connection.execute(sql, (run_id,)).fetchone()
            )
        except StoreError as error:
            ear.on_lost(f"the run cannot be read: {error}")
            return
        if found is None:
            ear.on_unknown()
        elif found[0] in ENDED:
            ear.on_ended(_ended(run_id, *found))
        else:
            ear.on_state(StateChanged(job_id=run_id, state="running", attempt=1))

    async def tail(self, job_id: str) -> Sequence[JobEvent]:
        """The last metrics."""
        return await self._events(job_id, "ORDER BY seq DESC LIMIT 1", ())

    async def page(self, job_id: str, after: Place) -> Sequence[JobEvent]:
        """What stands behind a place."""
        return await self._events(
            job_id, "AND seq > ? ORDER BY seq LIMIT ?", (after[1], PAGE_EVENTS)
        )

    async def _events(self, run_id: str, rest: str, values: tuple[int, ...]) -> list[JobEvent]:
        sql = f"SELECT seq, at, body FROM metrics WHERE run_id = ? {rest}"  # noqa: S608 - constants

        def read(connection: sqlite3.Connection) -> list[JobEvent]:
            rows = connection.execute(sql, (run_id, *values))
            return [_event(run_id, seq, at, json.loads(body)) for seq, at, body in rows]

        return await self._book.do(read)


def shown_metrics(body: Mapping[str, JsonValue], at: float) -> RunView:
    """Metrics as seed 000's REST interface shows them, with what the stream leaves out."""
    metrics, step = body.get("metrics"), body.get("step")
    values = values_of(
        metrics if isinstance(metrics, dict) else {}, step if isinstance(step, int) else None
    )
    shown: RunView = {**(values or {}), "timestamp": timestamp(at)}
    if "custom" in body:
        shown["custom"] = body["custom"]
    return shown


def _event(run_id: str, seq: int, at: float, body: dict[str, JsonValue]) -> JobEvent:
    return JobEvent(job_id=run_id, attempt=1, seq=seq, at=at, kind="metrics", body=body)


def _ended(run_id: str, status: str, at: float | None) -> Ended:
    return Ended(Outcome(job_id=run_id, status=outcome_of(status), attempt=1), at)


def _run_of(connection: sqlite3.Connection, run_id: str) -> RunView | None:
    sql = f"SELECT {_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608 - constants
    cells = connection.execute(sql, (run_id,)).fetchone()
    return None if cells is None else _view(cells)


def _view(cells: Sequence[object]) -> RunView:
    """What is not known is left out."""
    view: RunView = {}
    for name, cell in zip(_COLUMNS.replace(" ", "").split(","), cells, strict=True):
        if cell is None:
            continue
        if name in _JSON:
            view[name] = json.loads(str(cell))
        elif isinstance(cell, float) and name in _TIMES:
            view[name] = timestamp(cell)
        else:
            view[name] = str(cell)
    return view
