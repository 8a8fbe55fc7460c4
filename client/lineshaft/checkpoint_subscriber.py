"""Hears of new checkpoints and has them loaded, whatever Redis does meanwhile.

Theory. A thread subscribes first and then reads what was told last, so that a checkpoint announced
between the two is not missed; what was seen already is dropped by its version. An end of the
connection, also an orderly one, leads to the next try. A connection on which nothing comes is
asked whether it lives.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import environ
from typing import Final, Self

from lineshaft.redis_link import RedisLink, RedisSubscription, connect
from lineshaft_runtime.checkpoint_notices import (
    CheckpointNotice,
    NoticeError,
    NoticeSettings,
    is_switched_on,
    without_password,
)

logger = logging.getLogger(__name__)

Handler = Callable[[CheckpointNotice], object]

RING: Final = 32
"""Notices that wait for a slow reader of `Subscriber.notices`; then the oldest are dropped."""
_LOOK_S: Final = 0.2
_ASK_AFTER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """How to listen."""

    redis: NoticeSettings = field(default_factory=NoticeSettings)
    is_enabled: bool = True
    reconnect_s: float = 5.0
    retry_count_max: int = 0
    """Failed tries in a row after which the listener gives up; 0 for never."""

    @classmethod
    def from_environment(cls, values: Mapping[str, str]) -> Self:
        """Read the variables that consumers of this channel know.

        ``ENABLE_MODEL_RELOAD``, ``MODEL_RELOAD_RECONNECT_MS``, ``MODEL_RELOAD_MAX_RETRIES`` and
        those of `NoticeSettings`. Numbers that are none count as not set.
        """
        return cls(
            redis=NoticeSettings.from_environment(values),
            is_enabled=is_switched_on(values.get("ENABLE_MODEL_RELOAD")),
            reconnect_s=_whole(values.get("MODEL_RELOAD_RECONNECT_MS"), 5000) / 1000,
            retry_count_max=_whole(values.get("MODEL_RELOAD_MAX_RETRIES"), 0),
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a subscriber saw so far."""

    total_received: int = 0
    """Notices that could be read."""
    successful_reloads: int = 0
    failed_reloads: int = 0
    """Notices that could not be read, or that at least one handler failed on."""
    last_version: int = 0
    last_success: str | None = None
    """When the last one was loaded, by RFC 3339."""
    last_error: str | None = None
    last_model_path: str | None = None


class Subscriber:
    """Listens for checkpoints; handlers are called in turn, by a thread of its own.

    Args:
        model_name: Only checkpoints of this model; of all models if None.
        settings: From the environment if None.
    """

    def __init__(
        self, *, model_name: str | None = None, settings: ReloadSettings | None = None
    ) -> None:
        self._model_name = model_name
        self._settings = ReloadSettings.from_environment(environ) if settings is None else settings
        self._handlers: list[tuple[str, Handler]] = []
        self._statistics = Statistics()
        self._newest: dict[str, CheckpointNotice] = {}
        self._rings: list[deque[CheckpointNotice]] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._is_listening = False
        self._thread: threading.Thread | None = None

    def add_handler(self, handler: Handler, *, name: str | None = None) -> None:
        """Have something called with each notice; one that raises does not stop the others."""
        shown = name or str(getattr(handler, "__qualname__", handler))
        self._handlers.append((shown, handler))

    def start(self) -> None:
        """Begin to listen; does nothing if ``ENABLE_MODEL_RELOAD`` says no."""
        assert self._thread is None, "a subscriber is started once"
        if not self._settings.is_enabled:
            logger.info("checkpoint notices are not listened to: switched off")
            self._stopping.set()
            return
        name = "lineshaft-reloads"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a handler that is under way is waited for."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def statistics(self) -> Statistics:
        """What it saw so far."""
        return self._statistics

    @property
    def is_running(self) -> bool:
        """Whether it listens, or tries to."""
        return self._thread is not None and self._thread.is_alive()

    def wait_until_listening(self, timeout_s: float) -> bool:
        """Wait until it is connected; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_listening, timeout_s)

    def notices(self) -> Iterator[CheckpointNotice]:
        """Yield the newest notice of each model, then each that comes, until it is closed.

        A reader that is slow loses the oldest beyond `RING`.
        """
        with self._changed:
            ring = deque(self._newest.values(), maxlen=RING)
            self._rings.append(ring)
        return self._drain(ring)

    def _drain(self, ring: deque[CheckpointNotice]) -> Iterator[CheckpointNotice]:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: ring or not self._may_bring_more())
                    if not ring:
                        return
                    notice = ring.popleft()
                yield notice
        finally:
            with self._changed:
                self._rings = [other for other in self._rings if other is not ring]

    def _may_bring_more(self) -> bool:
        return not self._stopping.is_set() and (self._thread is None or self._thread.is_alive())

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._keep_listening()
        finally:
            self._stopping.set()
            with self._changed:
                self._changed.notify_all()

    def _keep_listening(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - a listener that dies silently helps nobody
                # A connection that stood is a success: only tries in a row are counted.
                failures = 1 if self._is_listening else failures + 1
                self._set_listening(now=False)
                fields = {"redis": without_password(self._settings.redis.url), "why": str(error)}
                if 0 < self._settings.retry_count_max <= failures:
                    logger.error("checkpoint notices are given up", extra=fields)  # noqa: TRY400 - no bug
                    return
                logger.warning("checkpoint notices are cut off", extra=fields)
                self._stopping.wait(self._settings.reconnect_s)

    def _listen(self) -> None:
        link = connect(self._settings.redis.url)
        try:
            subscription = link.pubsub()
            try:
                subscription.subscribe(self._settings.redis.channel)
                self._follow(link, subscription)
            finally:
                subscription.close()
        finally:
            link.close()

    def _follow(self, link: RedisLink, subscription: RedisSubscription) -> None:
        heard_at = asked_at = time.monotonic()
        while not self._stopping.is_set():
            message = subscription.get_message(timeout=_LOOK_S)
            now = time.monotonic()
            if message is None:
                if now - heard_at > 2 * _ASK_AFTER_S:
                    raise ConnectionError("Redis says nothing any more")
                if now - max(heard_at, asked_at) > _ASK_AFTER_S:
                    subscription.ping()
                    asked_at = now
                continue
            heard_at = now
            match message["type"]:
                case "subscribe":
                    self._take_last(link)
                    self._set_listening(now=True)
                case "message":
                    self._take(str(message["data"]))
                case _:
                    pass

    def _take_last(self, link: RedisLink) -> None:
        """Take what was told while we were not there."""
        key = self._settings.redis.latest_key
        if self._model_name is not None:
            last = link.hget(key, self._model_name)
            texts = [] if last is None else [last]
        else:
            texts = list(link.hgetall(key).values())
        for text in texts:
            self._take(text)

    def _take(self, text: str) -> None:
        try:
            notice = CheckpointNotice.from_json(text)
        except NoticeError as error:
            logger.warning("a checkpoint notice was skipped", extra={"why": str(error)})
            self._count_failure(str(error))
            return
        if self._model_name not in (None, notice.model_name):
            return
        before = self._newest.get(notice.model_name)
        if before is not None and 0 < notice.version <= before.version:
            return  # Told twice, or overtaken.
        old = self._statistics
        self._statistics = replace(old, total_received=old.total_received + 1)
        self._load(notice)
        with self._changed:
            self._newest[notice.model_name] = notice
            for ring in self._rings:
                ring.append(notice)
            self._changed.notify_all()

    def _load(self, notice: CheckpointNotice) -> None:
        errors: list[str] = []
        for name, handler in self._handlers:
            try:
                handler(notice)
            except Exception as error:
                fields = {"handler": name, "model_path": notice.model_path}
                logger.exception("a checkpoint could not be loaded", extra=fields)
                errors.append(f"{name}: {error}")
        if errors:
            self._count_failure("; ".join(errors))
            return
        old = self._statistics
        self._statistics = replace(
            old,
            successful_reloads=old.successful_reloads + 1,
            last_version=notice.version,
            last_success=datetime.now(UTC).isoformat(),
            last_model_path=notice.model_path,
        )

    def _count_failure(self, error: str) -> None:
        old = self._statistics
        self._statistics = replace(old, failed_reloads=old.failed_reloads + 1, last_error=error)

    def _set_listening(self, *, now: bool) -> None:
        with self._changed:
            self._is_listening = now
            self._changed.notify_all()


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise
