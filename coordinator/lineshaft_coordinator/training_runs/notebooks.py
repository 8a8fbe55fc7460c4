"""Checkpoints of notebooks: what was reached where, and which is the best."""

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from lineshaft_coordinator.strict_json import finite
from lineshaft_coordinator.training_runs.book import RunBook
from lineshaft_coordinator.training_runs.words import timestamp

CheckpointView = dict[str, JsonValue]
LOSSES = ("val_loss", "eval_loss", "loss")
"""What the best has least of; the first that a checkpoint tells counts."""
LISTED_MAX = 10_000


class Notebooks:
    """Keeps what notebooks say of their checkpoints; their files are their own business."""

    def __init__(self, book: RunBook) -> None:
        self._book = book

    async def add(
        self,
        notebook_id: str,
        user_id: str,
        epoch: int,
        step: int,
        metrics: Mapping[str, JsonValue],
    ) -> CheckpointView:
        """Keep one."""
        told = json.dumps(dict(metrics))
        row = (str(uuid.uuid4()), notebook_id, user_id, epoch, step, told, time.time())
        sql = "INSERT INTO notebook_checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)"
        await self._book.do(lambda connection: connection.execute(sql, row))
        return _view((*row[:2], *row[3:]))

    async def listed(self, notebook_id: str, user_id: str | None) -> list[CheckpointView]:
        """All of a notebook, the oldest first; of one user, or of all."""
        mine, values = ("", ()) if user_id is None else (" AND user_id = ?", (user_id,))
        columns = "id, notebook_id, epoch, step, metrics, created_at"
        sql = (
            f"SELECT {columns} FROM notebook_checkpoints WHERE notebook_id = ?{mine}"  # noqa: S608 - constants
            " ORDER BY created_at, id LIMIT ?"
        )

        def read(connection: sqlite3.Connection) -> list[CheckpointView]:
            return [
                _view(cells)
                for cells in connection.execute(sql, (notebook_id, *values, LISTED_MAX))
            ]

        return await self._book.do(read)

    async def best(self, notebook_id: str, user_id: str | None) -> CheckpointView | None:
        """The one with the least loss, the newest of equals; None if none tells any."""
        found = await self.listed(notebook_id, user_id)
        told = [(loss, each) for each in reversed(found) if (loss := _loss(each)) is not None]
        return min(told, key=lambda pair: pair[0])[1] if told else None


def _loss(checkpoint: CheckpointView) -> float | None:
    metrics = checkpoint["metrics"]
    if isinstance(metrics, dict):
        for name in LOSSES:
            loss = metrics.get(name)
            if isinstance(loss, int | float) and not isinstance(loss, bool):
                return None if finite(loss) is None else float(loss)
    return None


def _view(cells: Sequence[object]) -> CheckpointView:
    checkpoint_id, notebook_id, epoch, step, metrics, created_at = cells
    assert isinstance(created_at, float), "times are numbers"
    return {
        "id": str(checkpoint_id),
        "notebook_id": str(notebook_id),
        "epoch": int(str(epoch)),
        "step": int(str(step)),
        "metrics": json.loads(str(metrics)),
        "model_state_path": f"checkpoints/{notebook_id}/{checkpoint_id}/model_state",
        "created_at": timestamp(created_at),
    }
