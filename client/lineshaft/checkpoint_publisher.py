"""Publishes checkpoints of a training script: written whole, named, hashed, then announced.

Theory. The training thread only writes the file and gives it its name; a thread of ours hashes it
and tells Redis. While Redis is away only the newest untold notice is kept: who listens wants that
one. What was told last is kept in a hash of Redis, for those that come late.
"""

import atexit
import logging
import shutil
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike, environ
from pathlib import Path
from typing import Final, Self

from lineshaft.redis_link import RedisLink, connect
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.checkpoint_notices import (
    CheckpointNotice,
    NoticeSettings,
    metadata_texts,
    without_password,
)
from lineshaft_runtime.version_shelf import (
    DEFAULT_KEPT,
    VersionShelf,
    put_in_place,
    sha256_of,
)

logger = logging.getLogger(__name__)

CLOSE_S: Final = 2.0
_WARN_EVERY_S: Final = 60.0
_RETRY_FIRST_S: Final = 0.25
_RETRY_MAX_S: Final = 5.0


class VersionError(LineshaftError):
    """A version is not above those that were there before."""

    def __init__(self, model_name: str, version: int, last: int) -> None:
        super().__init__(
            f"version {version} of {model_name} does not follow {last}: versions only grow; leave "
            "version out to get the next one"
        )
        self.version, self.last = version, last


@dataclass(frozen=True, slots=True)
class _Saved:
    """A checkpoint that has its name."""

    path: Path
    version: int
    saved_at: str
    step: int
    metadata: Mapping[str, str]


class Publisher:
    """Saves checkpoints of one model and announces them.

    Args:
        folder: Where the models of this machine lie; a checkpoint becomes
            ``FOLDER/<model>/v<version>/<file>``, which consumers must be able to read.
        model_name: The lineage to which the versions belong.
        kept: How many versions stay on the disk, at least 1.
        settings: From the environment if None: ``REDIS_URL``, ``FKS_INSTANCE_ID``,
            ``ENABLE_CHECKPOINT_NOTIFY``.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        model_name: str,
        kept: int = DEFAULT_KEPT,
        settings: NoticeSettings | None = None,
    ) -> None:
        self._model_name = model_name
        self._shelf = VersionShelf(Path(folder).absolute(), model_name, kept=kept)
        settings = NoticeSettings.from_environment(environ) if settings is None else settings
        self._teller = _Teller(model_name, settings) if settings.is_enabled else None

    @contextmanager
    def writing(
        self,
        file_name: str = "model.bin",
        *,
        step: int = 0,
        metadata: Mapping[str, object] | None = None,
        version: int | None = None,
    ) -> Generator[Path]:
        """Give a path to write a checkpoint to; it is published when the block ends well.

        Never waits for Redis. What is told of it is its path, version, step, and as metadata
        `metadata`, ``sha256`` and ``size_bytes``, all as texts.

        Args:
            file_name: What the file is to be called.
            step: The training step; 0 if unknown.
            metadata: What else consumers are told, as a loss.
            version: Above all versions before; the next one if None.

        Raises:
            VersionError: `version` is not above them.
            OSError: The disk failed; nothing is published.
        """
        number, target = self._claim(file_name, version)
        # Under its own name: some writers, as NumPy's, look at how the name ends.
        draft = target.parent / ".draft" / target.name
        draft.parent.mkdir()
        try:
            yield draft
            put_in_place(draft, target)
        finally:
            shutil.rmtree(draft.parent, ignore_errors=True)
        saved_at = datetime.now(UTC).isoformat()
        saved = _Saved(target, number, saved_at, step, metadata_texts(metadata or {}))
        self._shelf.retire()
        if self._teller is not None:
            self._teller.tell(saved)

    def publish(
        self,
        path: str | PathLike[str],
        *,
        step: int = 0,
        metadata: Mapping[str, object] | None = None,
        version: int | None = None,
    ) -> Path:
        """Publish a copy of a file that is whole; returns where the copy lies.

        Raises:
            VersionError: As `writing`.
            OSError: The file cannot be copied.
        """
        source = Path(path)
        with self.writing(source.name, step=step, metadata=metadata, version=version) as draft:
            shutil.copyfile(source, draft)
        return draft.parent.parent / draft.name

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until the newest checkpoint is announced; returns whether it is."""
        return self._teller is None or self._teller.wait(timeout_s)

    @property
    def last_error(self) -> str | None:
        """Why the newest checkpoint is not announced yet; None if nothing is wrong."""
        return None if self._teller is None else self._teller.last_error

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Announce what is left, for no longer than this; what is saved later is not announced."""
        if self._teller is not None:
            self._teller.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _claim(self, file_name: str, version: int | None) -> tuple[int, Path]:
        if version is None:
            return self._shelf.claim(file_name)
        last = max(self._shelf.versions(), default=0)
        if version <= last:
            raise VersionError(self._model_name, version, last)
        return version, self._shelf.place(version, file_name)


class _Teller:
    """Hashes and announces in a thread of its own."""

    def __init__(self, model_name: str, settings: NoticeSettings) -> None:
        self._model_name, self._settings = model_name, settings
        self._changed = threading.Condition()
        self._waiting: list[_Saved] = []
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._link: RedisLink | None = None
        self._warned_at = float("-inf")
        self.last_error: str | None = None

    def tell(self, saved: _Saved) -> None:
        with self._changed:
            self._waiting.append(saved)
            if self._is_closing:
                self._warn_of_untold()
                return
            if self._thread is None:
                # A daemon, so that no end of a script hangs on Redis; close waits, for a while.
                name = "lineshaft-notices"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
                atexit.register(self.close, CLOSE_S)
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self, timeout_s: float) -> None:
        atexit.unregister(self.close)
        if self._is_closing:
            return
        is_told = self.wait(timeout_s)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if not is_told:
            self._warn_of_untold()
        elif self._thread is not None:
            self._thread.join(timeout_s)

    def _warn_of_untold(self) -> None:
        fields = {"model": self._model_name, "why": self.last_error or "it is closed"}
        logger.warning("the last checkpoint is saved, but was not announced", extra=fields)

    def _run(self) -> None:
        retry_s = _RETRY_FIRST_S
        while (saved := self._next()) is not None:
            try:
                self._announce(saved)
            except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
                self._on_failure(error)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closing, retry_s)
                    # Only the newest is worth telling once Redis is back.
                    del self._waiting[:-1]
                retry_s = min(retry_s * 2, _RETRY_MAX_S)
            else:
                retry_s = _RETRY_FIRST_S
                self.last_error = None
                with self._changed:
                    self._waiting.remove(saved)
                    self._changed.notify_all()
        self._hang_up()

    def _next(self) -> _Saved | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            return None if self._is_closing else self._waiting[0]

    def _announce(self, saved: _Saved) -> None:
        try:
            facts = {"sha256": sha256_of(saved.path), "size_bytes": str(saved.path.stat().st_size)}
        except FileNotFoundError:
            return  # So many came since that it is not kept any more.
        notice = CheckpointNotice(
            model_path=str(saved.path),
            model_name=self._model_name,
            version=saved.version,
            saved_at=saved.saved_at,
            training_step=max(0, saved.step),
            metadata={**saved.metadata, **facts},
        )
        if self._link is None:
            self._link = connect(self._settings.url)
        text = notice.to_json()
        with self._link.pipeline() as both:
            both.hset(self._settings.latest_key, self._model_name, text)
            both.publish(self._settings.channel, text)
            both.execute()

    def _on_failure(self, error: Exception) -> None:
        self.last_error = str(error)
        self._hang_up()
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            url = without_password(self._settings.url)
            fields = {"model": self._model_name, "redis": url, "why": str(error)}
            logger.warning("checkpoints are saved, but not announced", extra=fields)

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
