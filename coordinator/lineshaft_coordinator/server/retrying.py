"""Ended jobs done again: each as a new job, with what the first one was submitted with.

The new job is submitted on a session of our own, the same way as by a client: the core knows
nothing of retries but that a spec names the job before. Its id says which repeat of which job it
is; so whoever asks twice, or two users at once, get one job.
"""

import asyncio
from collections.abc import Callable

from lineshaft_coordinator.server.core_session import CoreSession
from lineshaft_coordinator.server.families import Families, next_number
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import Accepted, Refused, Submit
from lineshaft_protocol.families import retry_id
from lineshaft_protocol.ids import JobId, Session, is_name
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.wire import Wire


class RetryRefusedError(Exception):
    """The job cannot be done again; ``code`` is as in ``Refused``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Retries:
    """Submits ended jobs again.

    Args:
        families: Who ran whom again.
        sessions: Where the new jobs are submitted.
        submit: What takes a Submit in, once its blobs are seen to be here.
    """

    def __init__(
        self, families: Families, sessions: Sessions, submit: Callable[[Session, Submit], None]
    ) -> None:
        self._families, self._sessions, self._submit = families, sessions, submit

    async def retry(
        self, job_id: JobId, number: int | None, *, client_id: str, owner: str | None
    ) -> JobId:
        """Do a job again; returns the new job's id once it is kept.

        Args:
            job_id: A job that failed or was cancelled.
            number: Which repeat of the first of its family it is to be, from 1; None for the next.
            client_id: Who asks.
            owner: Id of the token by which that one asks: whose the new job is.

        Raises:
            RetryRefusedError: It is not known, has not ended or succeeded, or what it was submitted
                with is gone.
        """
        known = await self._families.known(job_id)
        if known is None:
            text = f"no job {job_id} is known; it may have been pruned with the history"
            raise RetryRefusedError("unknown_job", text)
        retries = await self._families.retries(job_id)
        if retries and retries[-1].is_live:
            return JobId(retries[-1].job_id)
        new_id = retry_id(job_id, number or next_number(retries))
        before = await self._families.known(new_id)
        if before is not None and before.spec.retry_of == job_id:
            return new_id
        status = known.outcome.status if known.outcome is not None else None
        self._refuse_hopeless(job_id, known.spec, status, new_id)
        if retries and retries[-1].status == "succeeded":
            text = f"job {retries[-1].job_id} did job {job_id} again and succeeded"
            raise RetryRefusedError("invalid", text)
        after = await self._after(known.spec)
        spec = known.spec.model_copy(
            update={"job_id": new_id, "retry_of": job_id, "after": after or None}
        )
        refused = await _Errand(self._sessions, client_id, owner).submit(self._submit, spec)
        if refused is not None:
            raise RetryRefusedError(refused.code, refused.message)
        return new_id

    @staticmethod
    def _refuse_hopeless(job_id: JobId, spec: JobSpec, status: str | None, new_id: JobId) -> None:
        text = None
        if status is None:
            text = f"job {job_id} has not ended; cancel it first, or wait"
        elif status == "succeeded":
            text = f"job {job_id} succeeded; only what failed or was cancelled is done again"
        elif spec.parent is not None:
            text = f"job {job_id} is a part of {spec.parent.job_id}; do that one again"
        elif spec.kind == "stream":
            text = f"job {job_id} is a stream, whose chunks only its client has; stream them again"
        elif not is_name(new_id):
            text = f"the id of job {job_id} is too long for one that is done again"
        if text is not None:
            raise RetryRefusedError("invalid", text)

    async def _after(self, spec: JobSpec) -> tuple[JobId, ...]:
        """What the new job comes after: of a job that did not succeed, whatever did it again."""
        found: list[JobId] = []
        for other in spec.after or ():
            known = await self._families.known(other)
            if known is None:
                continue  # Pruned long after it ended.
            is_fine = known.outcome is None or known.outcome.status == "succeeded"
            retries = [] if is_fine else await self._families.retries(other)
            last = retries[-1] if retries else None
            if not is_fine and (last is None or not (last.is_live or last.status == "succeeded")):
                text = (
                    f"job {other}, which it comes after, did not succeed; "
                    f"'lineshaft retry {other} {spec.job_id}' does both again"
                )
                raise RetryRefusedError("invalid", text)
            found.append(JobId(last.job_id if last is not None else other))
        return tuple(found)


class _Errand:
    """A client inside this process that submits one job and leaves."""

    def __init__(self, sessions: Sessions, client_id: str, owner: str | None) -> None:
        self._answer: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._session = CoreSession(sessions, client_id, self._hear, self._lose, owner=owner)

    async def submit(
        self, submit: Callable[[Session, Submit], None], spec: JobSpec
    ) -> Refused | None:
        """Submit a job; returns why it was not kept, or None."""
        try:
            # Not fresh: somebody else may be doing the same again.
            submit(self._session.id, Submit(job=spec))
            return await self._answer
        finally:
            self._session.close()

    def _hear(self, message: Wire) -> None:
        if isinstance(message, Accepted | Refused) and not self._answer.done():
            self._answer.set_result(message if isinstance(message, Refused) else None)

    def _lose(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(RetryRefusedError("draining", reason))
