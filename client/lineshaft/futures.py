"""The future of a job, as `concurrent.futures` knows them."""

import concurrent.futures
import threading
from _thread import RLock
from collections.abc import Callable
from typing import Generic, NoReturn, Protocol, TypeVar, cast

from typing_extensions import override

from lineshaft.endings import Ending, error_of
from lineshaft.errors import JobCancelledError, LineshaftError
from lineshaft_protocol.outcomes import Outcome
from lineshaft_runtime.packing import BytesLike, NoPassageError, unpack

ResultT = TypeVar("ResultT")
OwnerT = TypeVar("OwnerT")

_CANCELLED = "its future was cancelled"
_FIELDS = {"_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"}
_PLAIN: "concurrent.futures.Future[None]" = concurrent.futures.Future()
_IS_KNOWN = vars(_PLAIN).keys() == _FIELDS
"""Whether this Python's futures consist of what we know."""


class Told(Protocol):
    """What `concurrent.futures.wait` hangs on a future."""

    def add_result(self, future: object) -> None:
        """The future has a result."""
        ...


class Keeper(Protocol):
    """Who stands for a future where its end will be heard, and has it by a weak reference."""

    pinned: object
    """The future, while there are callbacks to be called; else None."""


class LineshaftFuture(concurrent.futures.Future[ResultT], Generic[ResultT]):
    """What a submitted call will return.

    `concurrent.futures.wait` and `as_completed` take it. What the job returned or raised is
    unpickled when it is asked for, in the thread that asks.

    Args:
        job_id: Of the job.
        cancel_job: Asks the owner for the end of a job with this id, for this reason.
        owner: Lives as long as the future.
    """

    def __init__(
        self, job_id: str, cancel_job: Callable[[OwnerT, str, str], None], owner: OwnerT
    ) -> None:
        if _IS_KNOWN:
            # As Python does it, but with a condition that costs little before anybody waits, and
            # without two empty lists: what the garbage collector has to look at for each future
            # is a good part of what it costs.
            self._condition = _Condition()  # type: ignore[assignment]  # all that is used of one
            self._state = "PENDING"
            self._result = None
            self._exception = None
            self._told: list[Told] | None = None
            self._called: list[object] | None = None
        else:
            super().__init__()
        self.id = job_id
        """Of the job: `client.job(future.id)` tells more about it."""
        # Not a bound method, which would be an object more for each future.
        self._cancel_job: Callable[..., None] = cancel_job
        self._owner: object = owner
        self.keeper: Keeper | None = None
        """For the client; None once the future is decided."""
        self._is_decided = False
        self._reading: threading.Lock | None = None
        self._error: Exception | None = None
        self._is_read = False
        self._ending: Ending | None = None
        """How the job ended, if it did not succeed."""

    if _IS_KNOWN:
        # Lists of Python's own, made when it first asks for them.

        @property
        def _waiters(self) -> "list[Told]":  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride] - a list all the same
            if self._told is None:
                self._told = []
            return self._told

        @property
        def _done_callbacks(self) -> list[object]:
            if self._called is None:
                self._called = []
            return self._called

    @override
    def __reduce__(self) -> NoReturn:
        raise NoPassageError("a future stays with its client")

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
        if self._state != "FINISHED":
            try:
                super().exception(timeout)
            except concurrent.futures.CancelledError:
                raise self._cancelled() from None
        if not self._is_read:
            with self._condition:
                reading = self._reading = self._reading or threading.Lock()
            with reading:
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
        self._cancel_job(self._owner, self.id, _CANCELLED)
        return True

    @override
    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[ResultT]], object]) -> None:
        """Have something called with the future when it is done, also if nobody else keeps it."""
        if (keeper := self.keeper) is not None:
            keeper.pinned = self
        super().add_done_callback(fn)
        if self._is_decided and keeper is not None:
            keeper.pinned = None

    # --- for the client ---

    def settle(self, ending: Ending, data: BytesLike | None) -> None:
        """Make it done. Called once, by the client.

        Args:
            ending: How the job ended.
            data: Its packed result, if it succeeded.
        """
        if isinstance(ending, Outcome) and ending.status == "succeeded":
            # The outcome is not kept: six objects more that the collector would look at.
            self._succeed(data)
            return
        if not self._decide():
            return
        self._data = data
        self._ending = ending
        if isinstance(ending, LineshaftError):
            self.set_exception(ending)
        elif ending.status == "cancelled":
            self._become_cancelled()
        else:
            self.set_exception(_FailedError())

    def _succeed(self, data: BytesLike | None) -> None:
        if not _IS_KNOWN:
            if self._decide():
                self._data = data
                self.set_result(cast("ResultT", None))  # `result` reads the data instead.
            return
        # `_decide` and `set_result` in one, as there are thousands.
        condition = self._condition
        with condition:
            if self._is_decided:
                return
            self._is_decided = True
            self._data = data
            self._state = "FINISHED"
            for waiter in self._told or ():
                waiter.add_result(self)
            condition.notify_all()
        if (keeper := self.keeper) is not None:
            self.keeper = keeper.pinned = None
        if self._called:
            self._invoke_callbacks()  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue] - Python's own

    def _decide(self) -> bool:
        """Return whether the caller is the one who makes the future done."""
        # Callbacks run without the lock: they may wait for the thread that settles.
        with self._condition:
            is_first, self._is_decided = not self._is_decided, True
        # Whoever decides has the future in hand until its callbacks were called.
        if (keeper := self.keeper) is not None:
            self.keeper = keeper.pinned = None
        return is_first

    def _become_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()

    def _read(self) -> None:
        self._error = None if self._ending is None else error_of(self._ending)
        if self._error is not None:
            return
        assert self._data is not None, "a job that succeeded has a result"
        try:
            self._value = cast("ResultT", unpack(self._data))
        except LineshaftError as error:
            self._error = error
        self._data = None  # Not before: Ctrl-C may come meanwhile, and it is asked for again.

    def _cancelled(self) -> JobCancelledError:
        error = None if self._ending is None else error_of(self._ending)
        if isinstance(error, JobCancelledError):
            return error
        return JobCancelledError(self.id, _CANCELLED)


class _FailedError(Exception):
    """Stands in for an exception that nobody has asked for yet."""


class _Condition(RLock):  # type: ignore[misc]  # not final while it runs
    """A lock, and a `threading.Condition` of it from when somebody first waits."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        # Who waits has the lock, so there is only ever one.
        self._waiting = self._waiting or threading.Condition(self)
        return self._waiting.wait(timeout)

    def notify_all(self) -> None:
        # Each refers to the other: not to be left to the collector with every future.
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.notify_all()
