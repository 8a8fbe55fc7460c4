"""Answers to what clients ask beside the core: questions, secrets, and jobs to be done again."""

import asyncio
import logging

from lineshaft_coordinator.data.secrets import SecretBox, SecretsDamagedError
from lineshaft_coordinator.journal import UNREADABLE
from lineshaft_coordinator.server.families import UnknownArrayError
from lineshaft_coordinator.server.questions import Questions, UnknownJobError
from lineshaft_coordinator.server.retrying import Retries, RetryRefusedError
from lineshaft_coordinator.store.errors import StoreFullError
from lineshaft_protocol.client_messages import Answer, KeepSecret, Query, Retry
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import JobId

logger = logging.getLogger(__name__)


class Replies:
    """Finds what each request is answered with.

    Whatever is wrong with one job, one secret or the room on the disk is an answer. What raises
    all the same is a bug of ours, or a store that failed.
    """

    def __init__(self, questions: Questions, retries: Retries, secrets: SecretBox) -> None:
        self._questions, self._retries, self._secrets = questions, retries, secrets

    async def to_query(self, query: Query, asker: str | None) -> Answer:
        """Answer a question of who has the token of this id.

        Raises:
            StoreError: The store failed.
        """
        try:
            data = await self._questions.answer(query, asker)
        except (UnknownJobError, UnknownArrayError, StoreFullError, SecretsDamagedError) as error:
            return Answer(request_id=query.request_id, error=str(error))
        except UNREADABLE as error:
            fields = {"job_id": query.job_id, "asked": query.what, "why": str(error)}
            logger.warning("a question cannot be answered", extra=fields)
            return Answer(request_id=query.request_id, error=str(error))
        return Answer(request_id=query.request_id, data=data)

    async def to_retry(self, message: Retry, client_id: str, owner: str | None) -> Answer:
        """Do an ended job again, for the token of this id; answers with the new job's id.

        Raises:
            StoreError: The store failed.
        """
        try:
            new_id = await self._retries.retry(
                JobId(message.job_id), message.number, client_id=client_id, owner=owner
            )
        except RetryRefusedError as error:
            return Answer(
                request_id=message.request_id, data={"code": error.code}, error=str(error)
            )
        except (StoreFullError, *UNREADABLE) as error:
            return Answer(request_id=message.request_id, error=str(error))
        return Answer(request_id=message.request_id, data={"job_id": new_id})

    async def to_secret(self, message: KeepSecret) -> Answer:
        """Keep or forget a secret; answers with whether there was one of this name."""
        try:
            if message.value is None:
                was_kept = await asyncio.to_thread(self._secrets.remove, message.name)
            else:
                await asyncio.to_thread(self._secrets.set, message.name, message.value)
                was_kept = True
        except (LineshaftError, OSError) as error:
            return Answer(request_id=message.request_id, error=f"not kept: {error}")
        logger.info("secret changed", extra={"secret": message.name})
        return Answer(request_id=message.request_id, data=was_kept)
