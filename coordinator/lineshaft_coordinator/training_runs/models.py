"""Models of seed 000, each version a file ``models/<id>/v<n>/model.<ext>``."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import JsonValue

from lineshaft_coordinator.training_runs.book import RunBook
from lineshaft_coordinator.training_runs.words import timestamp
from lineshaft_protocol.errors import LineshaftError

_EXTENSION: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_COPY_BYTES: Final = 1024 * 1024

ModelView = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """How long uploads may be, in bytes."""

    upload_bytes_max: int
    """Of one version."""
    total_bytes_max: int | None = None
    """Of all versions of all models together; None: what the disk has."""


class ModelsFullError(LineshaftError):
    """All versions of all models together would be longer than they may be."""

    def __init__(self, size_bytes: int, used_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"no room for {size_bytes} bytes: models have {used_bytes} of the {bytes_max} bytes "
            "that they may have; delete one, or start the coordinator with a larger "
            "--models-bytes-max"
        )
        self.size_bytes, self.used_bytes, self.bytes_max = size_bytes, used_bytes, bytes_max


class Models:
    """Keeps models; who may see one is its caller's business.

    Args:
        book: Where they are listed; their files lie below its folder.
        bytes_max: Length of all versions of all models at most; None: what the disk has.
    """

    def __init__(self, book: RunBook, *, bytes_max: int | None = None) -> None:
        self._book, self._bytes_max = book, bytes_max
        self._folder = book.folder / "models"

    async def create(
        self, user_id: str, name: str, kind: str, description: str | None
    ) -> ModelView:
        """Begin a model, without any version."""
        model_id, now = str(uuid.uuid4()), time.time()
        row = (model_id, user_id, name, description, kind, now, now)
        sql = "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?)"
        await self._book.do(lambda connection: connection.execute(sql, row))
        model = await self.get(model_id)
        assert model is not None, "it was just made"
        return model

    async def get(self, model_id: str) -> ModelView | None:
        """One model; None if there is none."""
        found = await self._select("WHERE id = ?", (model_id,))
        return found[0] if found else None

    async def listed(self, user_id: str | None, limit: int, offset: int) -> list[ModelView]:
        """Models, the newest first; of one user, or of all."""
        where = "" if user_id is None else "WHERE user_id = ?"
        values = () if user_id is None else (user_id,)
        rest = f"{where} ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?"
        return await self._select(rest, (*values, limit, offset))

    async def delete(self, model_id: str) -> None:
        """Forget a model, its versions and files."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM versions WHERE model_id = ?", (model_id,))
            connection.execute("DELETE FROM models WHERE id = ?", (model_id,))

        await self._book.do(forget)
        await asyncio.to_thread(shutil.rmtree, self._folder / model_id, ignore_errors=True)

    async def add_version(
        self,
        model_id: str,
        content: BinaryIO,
        filename: str,
        metrics: JsonValue,
        run_id: str | None,
    ) -> ModelView:
        """Keep a file as the next version; it is whole on the disk before anybody sees it.

        Raises:
            ModelsFullError: All together would be too long.
            OSError: It cannot be written.
        """
        extension = Path(filename).suffix[1:]
        name = f"model.{extension if _EXTENSION.fullmatch(extension) else 'bin'}"
        draft = self._folder / model_id / f".{uuid.uuid4()}.tmp"
        length = content.seek(0, os.SEEK_END)
        content.seek(0)
        await self._book.do(lambda connection: self._look_for_room(connection, length))
        size, sha256 = await asyncio.to_thread(_copied, content, draft)
        version_id, now = str(uuid.uuid4()), time.time()
        told = None if metrics is None else json.dumps(metrics)

        def keep(connection: sqlite3.Connection) -> int:
            self._look_for_room(connection, size)  # Another one may have come meanwhile.
            (last,) = connection.execute(
                "SELECT max(version) FROM versions WHERE model_id = ?", (model_id,)
            ).fetchone()
            number = int(last or 0) + 1
            path = f"models/{model_id}/v{number}/{name}"
            whole = self._book.folder / path
            whole.parent.mkdir(exist_ok=True, mode=0o700)
            draft.replace(whole)
            row = (version_id, model_id, number, path, size, sha256, told, run_id, now)
            connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("UPDATE models SET updated_at = ? WHERE id = ?", (now, model_id))
            return number

        try:
            number = await self._book.do(keep)
        finally:
            draft.unlink(missing_ok=True)
        version = await self.version(model_id, number)
        assert version is not None, "it was just kept"
        return version

    def _look_for_room(self, connection: sqlite3.Connection, size_bytes: int) -> None:
        if self._bytes_max is None:
            return
        (used,) = connection.execute("SELECT coalesce(sum(file_size), 0) FROM versions").fetchone()
        if int(used) + size_bytes > self._bytes_max:
            raise ModelsFullError(size_bytes, int(used), self._bytes_max)

    async def versions(self, model_id: str) -> list[ModelView]:
        """All versions, the first one first."""
        return await self._versions("WHERE model_id = ? ORDER BY version", (model_id,))

    async def version(self, model_id: str, number: int) -> ModelView | None:
        """One version; None if there is none."""
        found = await self._versions("WHERE model_id = ? AND version = ?", (model_id, number))
        return found[0] if found else None

    def file_of(self, version: ModelView) -> Path:
        """Where the content of a version lies."""
        return self._book.folder / str(version["file_path"])

    async def count(self) -> int:
        """How many models there are."""
        sql = "SELECT count(*) FROM models"
        return await self._book.do(lambda connection: int(connection.execute(sql).fetchone()[0]))

    async def _select(self, rest: str, values: tuple[str | int, ...]) -> list[ModelView]:
        columns = "id, user_id, name, description, model_type, created_at, updated_at"
        sql = f"SELECT {columns} FROM models {rest}"  # noqa: S608 - constants

        def read(connection: sqlite3.Connection) -> list[ModelView]:
            names = ("id", "user_id", "name", "description", "model_type")
            views: list[ModelView] = []
            for *texts, created_at, updated_at in connection.execute(sql, values):
                view: ModelView = dict(zip(names, texts, strict=True))
                view |= {"created_at": timestamp(created_at), "updated_at": timestamp(updated_at)}
                views.append({name: cell for name, cell in view.items() if cell is not None})
            return views

        return await self._book.do(read)

    async def _versions(self, rest: str, values: tuple[str | int, ...]) -> list[ModelView]:
        columns = "id, model_id, version, file_path, file_size, sha256, metrics, training_run_id"
        sql = f"SELECT {columns}, created_at FROM versions {rest}"  # noqa: S608 - constants

        def read(connection: sqlite3.Connection) -> list[ModelView]:
            names = ("id", "model_id", "version", "file_path", "file_size", "sha256")
            views: list[ModelView] = []
            for *cells, metrics, run_id, created_at in connection.execute(sql, values):
                view: ModelView = dict(zip(names, cells, strict=True))
                if metrics is not None:
                    view["metrics"] = json.loads(metrics)
                if run_id is not None:
                    view["training_run_id"] = str(run_id)
                views.append(view | {"created_at": timestamp(created_at)})
            return views

        return await self._book.do(read)


def _copied(content: BinaryIO, draft: Path) -> tuple[int, str]:
    """Copy a content to a file that is on the disk then; its size in bytes, and its SHA-256."""
    draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, size = hashlib.sha256(), 0
    try:
        with draft.open("xb") as file:
            while piece := content.read(_COPY_BYTES):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return size, digest.hexdigest()
