"""The future of a job, as `concurrent.futures` knows them."""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from typing_extensions import override

from lineshaft.endings import Ending, error_of
from lineshaft.errors import JobCancelledError, LineshaftError
from lineshaft_runtime.packing import BytesLike, unpack

ResultT = TypeVar("ResultT")

_CANCELLED = "its future was cancelled"


class LineshaftFuture(concurrent.futures.Future[ResultT], Generic[ResultT]):
    """What a submitted call will return.

    `concurrent.futures.wait` and `as_completed` take it. What the job returned or raised is
    unpickled when it is asked for, in the thread that asks.

    Args:
        job_id: Of the job.
        cancel_job: Asks for the job's end.
    """

    def __init__(self, job_id: str, cancel_job: Callable[[str], None]) -> None:
        super().__init__()
        self.id = job_id
        """Of the job: `client.job(future.id)` tells more about it."""
        self._cancel_job = cancel_job
        self.pin: list[LineshaftFuture[ResultT]] = []
        """For the client, which has only this, and a weak reference: while there are callbacks to
        be called the future is in it."""
        self._deciding = threading.Lock()
        self._is_decided = False
        self._reading = threading.Lock()
        self._error: Exception | None = None
        self._is_read = False

    @override
    def result(self, timeout: float | None = None) -> ResultT:
        """Wait for what the job returns.

        Args:
            timeout: Longest wait, in seconds.

        Raises:
            TimeoutError: The job has not ended in time; it goes on.
            JobCancelledError: It was cancelled.
            LineshaftError: It ended without a result, or the client was closed.
            Exception: Whatever the function raised.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del error  # Else it refers to itself, by its traceback and this frame.
        return self._value

    @override
    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for the job's end and return what it raised; None if it returned.

        Raises:
            TimeoutError: The job has not ended in time; it goes on.
            JobCancelledError: It was cancelled.
        """
        try:
            super().exception(timeout)
        except concurrent.futures.CancelledError:
            raise self._cancelled() from None
        with self._reading:
            if not self._is_read:
                self._read()
                self._is_read = True
        return self._error

    @override
    def cancel(self) -> bool:
        """Cancel the job, also while it runs; False if it has ended already."""
        if not self._decide():
            return self.cancelled()
        self._become_cancelled()
        self._cancel_job(_CANCELLED)
        return True

    @override
    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[ResultT]], object]) -> None:
        """Have something called with the future when it is done, also if nobody else keeps it."""
        self.pin[:] = (self,)
        super().add_done_callback(fn)
        if self._is_decided:
            self.pin.clear()

    # --- for the client ---

    def settle(self, ending: Ending, data: BytesLike | None) -> None:
        """Make it done. Called once, by the client.

        Args:
            ending: How the job ended.
            data: Its packed result, if it succeeded.
        """
        if not self._decide():
            return
        self._ending, self._data = ending, data
        if isinstance(ending, LineshaftError):
            self.set_exception(ending)
        elif ending.status == "succeeded":
            self.set_result(cast("ResultT", None))  # `result` reads the data instead.
        elif ending.status == "cancelled":
            self._become_cancelled()
        else:
            self.set_exception(_FailedError())

    def _decide(self) -> bool:
        """Return whether the caller is the one who makes the future done."""
        # Callbacks run without the lock: they may wait for the thread that settles.
        with self._deciding:
            is_first, self._is_decided = not self._is_decided, True
        # Whoever decides has the future in hand until its callbacks were called.
        self.pin.clear()
        return is_first

    def _become_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()

    def _read(self) -> None:
        self._error = error_of(self._ending)
        if self._error is not None:
            return
        data, self._data = self._data, None
        assert data is not None, "a job that succeeded has a result"
        try:
            self._value = cast("ResultT", unpack(data))
        except LineshaftError as error:
            self._error = error

    def _cancelled(self) -> JobCancelledError:
        ending: Ending | None = getattr(self, "_ending", None)
        error = None if ending is None else error_of(ending)
        if isinstance(error, JobCancelledError):
            return error
        return JobCancelledError(self.id, _CANCELLED)


class _FailedError(Exception):
    """Stands in for an exception that nobody has asked for yet."""
