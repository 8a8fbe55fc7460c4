"""Checkpoint notices: what they say, how they are written, and where Redis is.

A notice tells that a checkpoint of a model is whole and where it lies. Its JSON, its channel and
its settings are those of existing consumers, which read it without knowing Lineshaft.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Self, cast

from lineshaft_protocol.errors import LineshaftError

DEFAULT_URL: Final = "redis://localhost:6379"
DEFAULT_INSTANCE: Final = "default"
LIMIT_S: Final = 1.0
"""Longest wait for an answer of Redis."""
NUMBER_MAX: Final = 2**64 - 1
"""Versions and steps are unsigned 64-bit numbers; 0 means unknown."""
_NO_WORDS: Final = frozenset({"false", "0", "no", "off"})


class NoticeError(LineshaftError):
    """A text is no checkpoint notice, or what should be told does not fit into one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no checkpoint notice: {reason}")
        self.reason = reason


class RedisPackageError(LineshaftError):
    """The package that speaks to Redis is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "checkpoint notices need the package redis; install it with "
            "pip install 'lineshaft[redis]'"
        )


@dataclass(frozen=True, slots=True)
class CheckpointNotice:
    """A checkpoint of a model is whole and can be read.

    Raises:
        NoticeError: A number is below 0 or above `NUMBER_MAX`.
    """

    model_path: str
    """Where it lies, for a reader of the same storage."""
    model_name: str
    version: int = 0
    """Grows with each checkpoint of the model; 0 if unknown."""
    saved_at: str = ""
    """When, by RFC 3339."""
    training_step: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name, number in (("version", self.version), ("training_step", self.training_step)):
            if not 0 <= number <= NUMBER_MAX:
                raise NoticeError(f"{name} must be from 0 to {NUMBER_MAX}, not {number}")

    def to_json(self) -> str:
        """Write it: all six keys, always, in this order."""
        facts = {
            "model_path": self.model_path,
            "model_name": self.model_name,
            "version": self.version,
            "saved_at": self.saved_at,
            "training_step": self.training_step,
            "metadata": dict(self.metadata),
        }
        text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
        # File names may hold what is no text; a strict reader refuses it also when escaped.
        return text.encode(errors="replace").decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it: only metadata may be missing, and keys that we do not know are ignored.

        Raises:
            NoticeError: It is none.
        """
        try:
            read: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NoticeError(f"it is not JSON ({error})") from error
        if not isinstance(read, dict):
            raise NoticeError("it is not a JSON object")
        facts = cast("dict[str, object]", read)
        return cls(
            model_path=_text(facts, "model_path"),
            model_name=_text(facts, "model_name"),
            version=_number(facts, "version"),
            saved_at=_text(facts, "saved_at"),
            training_step=_number(facts, "training_step"),
            metadata=_texts(facts.get("metadata", {})),
        )


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """Where notices go."""

    url: str = DEFAULT_URL
    instance_id: str = DEFAULT_INSTANCE
    is_enabled: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read ``REDIS_URL``, ``FKS_INSTANCE_ID`` and ``ENABLE_CHECKPOINT_NOTIFY``."""
        return cls(
            url=environ.get("REDIS_URL") or DEFAULT_URL,
            instance_id=environ.get("FKS_INSTANCE_ID") or DEFAULT_INSTANCE,
            is_enabled=is_switched_on(environ.get("ENABLE_CHECKPOINT_NOTIFY")),
        )

    @property
    def channel(self) -> str:
        """The channel on which notices are published."""
        return f"fks:{self.instance_id}:model_checkpoints"

    @property
    def latest_key(self) -> str:
        """The hash that keeps the last notice of each model, by the model's name."""
        return f"{self.channel}:latest"


def is_switched_on(text: str | None) -> bool:
    """Whether a switch is on: unless it says false, 0, no or off."""
    return text is None or text.strip().lower() not in _NO_WORDS


def metadata_texts(values: Mapping[str, object]) -> dict[str, str]:
    """Turn values into the texts that readers demand; what is None is left out."""
    return {str(key): _as_text(value) for key, value in values.items() if value is not None}


def without_password(url: str) -> str:
    """A URL as logs may show it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _as_text(value: object) -> str:
    match value:
        case str():
            return value
        case bool() | dict() | list() | tuple():
            return json.dumps(value, default=str)
        case _:
            return str(value)


def _text(facts: Mapping[str, object], key: str) -> str:
    value = facts.get(key)
    if not isinstance(value, str):
        raise NoticeError(f"{key} must be a text" if key in facts else f"{key} is missing")
    return value


def _number(facts: Mapping[str, object], key: str) -> int:
    value = facts.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise NoticeError(f"{key} must be a whole number" if key in facts else f"{key} is missing")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise NoticeError("metadata must be an object")
    texts = cast("dict[str, object]", value)
    for key, text in texts.items():
        if not isinstance(text, str):
            raise NoticeError(f"metadata {key} must be a text")
    return cast("dict[str, str]", value)


def redis_client(url: str, *, is_async: bool) -> object:
    """A client that neither waits long nor tries again by itself; it dials when it is used.

    Raises:
        RedisPackageError: The package is not installed.
        ValueError: It is no URL of Redis.
    """
    name = "redis.asyncio" if is_async else "redis"
    try:
        redis: Any = import_module(name)  # 27 MB that only who needs it pays for
        retry: Any = import_module(f"{name}.retry")
        backoff: Any = import_module("redis.backoff")
    except ImportError as error:
        raise RedisPackageError from error
    client: object = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=LIMIT_S,
        socket_connect_timeout=LIMIT_S,
        retry=retry.Retry(backoff.NoBackoff(), 0),
    )
    return client
