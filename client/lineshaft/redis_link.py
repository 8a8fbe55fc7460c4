"""Connections to Redis of scripts; the package is imported when the first one is made."""

from collections.abc import Mapping
from typing import Protocol, Self, cast

from lineshaft_runtime.checkpoint_notices import redis_client

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
    # By the documentation of the package, which tells no types.
    return cast("RedisLink", redis_client(url, is_async=False))
