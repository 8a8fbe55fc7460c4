"""The coordinator's connection to Redis; the package is imported when it is first dialled."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from lineshaft_runtime.checkpoint_notices import (
    LIMIT_S,
    CheckpointNotice,
    NoticeSettings,
    redis_client,
)

# The package's own types are partly unknown; these are the few methods that we use.


class _Batch(Protocol):
    def hset(self, name: str, *, mapping: Mapping[str, str]) -> object: ...
    def publish(self, channel: str, message: str) -> object: ...
    async def execute(self) -> object: ...


class _Client(Protocol):
    def pipeline(self) -> _Batch: ...
    async def hgetall(self, name: str) -> dict[str, str]: ...
    async def hset(self, name: str, *, mapping: Mapping[str, str]) -> object: ...
    async def hdel(self, name: str, *keys: str) -> object: ...
    async def ping(self) -> object: ...
    async def aclose(self) -> None: ...


class RedisLine:
    """One connection, dialled when it is used; no call takes longer than a second.

    All methods raise what the package raises, OSError or TimeoutError when Redis is away; then
    hang up, and the next call dials again.
    """

    def __init__(self, settings: NoticeSettings) -> None:
        self._settings = settings
        self._client: _Client | None = None

    async def dial(self) -> None:
        """Make a client of Redis.

        Raises:
            RedisPackageError: The package is not installed.
            ValueError: It is no URL of Redis.
        """
        if self._client is None:
            # In a thread: reading 27 MB of modules takes a third of a second.
            made = await asyncio.to_thread(redis_client, self._settings.url, is_async=True)
            self._client = cast("_Client", made)  # by the documentation of the package

    async def last_told(self) -> dict[str, str]:
        """Read what Redis keeps for those that come late: the last notice of each model."""
        async with asyncio.timeout(LIMIT_S):
            return await self._the_client().hgetall(self._settings.latest_key)

    async def keep(self, notices: Sequence[CheckpointNotice]) -> None:
        """Have Redis keep notices that were told before."""
        if notices:
            texts = {notice.model_name: notice.to_json() for notice in notices}
            async with asyncio.timeout(LIMIT_S):
                await self._the_client().hset(self._settings.latest_key, mapping=texts)

    async def tell(self, notice: CheckpointNotice) -> None:
        """Publish a notice, and have Redis keep it, both or neither."""
        text = notice.to_json()
        both = self._the_client().pipeline()
        both.hset(self._settings.latest_key, mapping={notice.model_name: text})
        both.publish(self._settings.channel, text)
        async with asyncio.timeout(LIMIT_S):
            await both.execute()

    async def drop(self, model_names: Sequence[str]) -> None:
        """Have Redis forget the last notices of models."""
        if model_names:
            async with asyncio.timeout(LIMIT_S):
                await self._the_client().hdel(self._settings.latest_key, *model_names)

    async def ping(self) -> None:
        """Ask whether Redis is there."""
        async with asyncio.timeout(LIMIT_S):
            await self._the_client().ping()

    async def hang_up(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _the_client(self) -> _Client:
        assert self._client is not None, "dial comes first"
        return self._client
