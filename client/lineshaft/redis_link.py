"""Connections to Redis of scripts; the package is imported when the first one is made."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, Self, cast

from lineshaft_runtime.checkpoint_notices import LIMIT_S, RedisPackageError

# The package's own types are partly unknown; these are the few methods that we use.


class RedisBatch(Protocol):
    """Commands that happen together or not at all."""

    def hset(self, name: str, key: str, value: str) -> object: ...  # noqa: D102 - Redis' own words
    def publish(self, channel: str, message: str) -> object: ...  # noqa: D102
    def execute(self) -> object: ...  # noqa: D102
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class RedisSubscription(Protocol):
    """Channels that are listened to."""

    def subscribe(self, *channels: str) -> object: ...  # noqa: D102
    def get_message(self, *, timeout: float) -> Mapping[str, object] | None: ...  # noqa: D102
    def ping(self) -> object: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class RedisLink(Protocol):
    """A client of Redis."""

    def pipeline(self) -> RedisBatch: ...  # noqa: D102
    def pubsub(self) -> RedisSubscription: ...  # noqa: D102
    def hget(self, name: str, key: str) -> str | None: ...  # noqa: D102
    def hgetall(self, name: str) -> dict[str, str]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def connect(url: str) -> RedisLink:
    """A client that neither waits long nor tries again by itself; it dials when it is used.

    Raises:
        RedisPackageError: The package is not installed.
        ValueError: It is no URL of Redis.
    """
    try:
        redis: Any = import_module("redis")  # 27 MB that only who publishes pays for
        backoff: Any = import_module("redis.backoff")
        retry: Any = import_module("redis.retry")
    except ImportError as error:
        raise RedisPackageError from error
    link = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=LIMIT_S,
        socket_connect_timeout=LIMIT_S,
        retry=retry.Retry(backoff.NoBackoff(), 0),
    )
    return cast("RedisLink", link)  # by the documentation of the package
