"""An executor as `concurrent.futures` has them, whose processes are on other machines."""

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from typing_extensions import override

from lineshaft.chunks import ChunkCall, chunks_of
from lineshaft.client import Client
from lineshaft.errors import QueryError
from lineshaft.futures import LineshaftFuture

if TYPE_CHECKING:
    from typing import Unpack

    from lineshaft.options import JobOptions

ResultT = TypeVar("ResultT")
ParamsT = ParamSpec("ParamsT")

_BEFORE = frozenset({"queued", "waiting", "assigned"})


class Executor(concurrent.futures.Executor):
    """Runs calls on workers, in the place of a `ProcessPoolExecutor`.

    Args:
        client: Who submits the jobs, and stays open; None makes one, which is closed at shutdown.
        options: Of all jobs, as `resources={"gpus": 1}` or `retries=2`.

    Raises:
        LineshaftError: There is no coordinator, or an option is not possible.
    """

    def __init__(self, client: Client | None = None, **options: "Unpack[JobOptions]") -> None:
        self._owned = Client() if client is None else None
        self._client = client or self._owned
        assert self._client is not None, "either given or made"
        self._jobs = self._client.options(**options)
        self._pending: dict[LineshaftFuture[Any], None] = {}  # Any: futures of all kinds.
        self._changing = threading.Lock()
        self._is_shut = False

    @override
    def submit(
        self,
        fn: Callable[ParamsT, ResultT],
        /,
        *args: ParamsT.args,
        **kwargs: ParamsT.kwargs,
    ) -> LineshaftFuture[ResultT]:
        """Call a function on a worker; all arguments are its own.

        Raises:
            RuntimeError: The executor was shut down.
            CannotPackError: The function or an argument cannot leave the process.
        """
        with self._changing:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future = self._jobs.submit(fn, *args, **kwargs)
            self._pending[future] = None
        future.add_done_callback(self._forget)
        return future

    @override
    def map(
        self,
        fn: Callable[..., ResultT],
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[ResultT]:
        """Submit all calls now, and return their results in order.

        Args:
            fn: What to call.
            iterables: Arguments, as for the built-in `map`.
            timeout: Until when all results must be there, in seconds from now.
            chunksize: Calls in one job.

        Raises:
            TimeoutError: By the iterator: a result is not there in time.
            ValueError: The chunk size is below 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = chunks_of(zip(*iterables, strict=False), chunksize)
        return _flattened(super().map(ChunkCall(fn), chunks, timeout=timeout))

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: Wait until all are done; otherwise they go on, and so does their client.
            cancel_futures: Cancel those that are not known to have started.
        """
        with self._changing:
            self._is_shut = True
            pending = tuple(self._pending.copy())  # At once: see `_forget`.
        if cancel_futures:
            for future in pending:
                if not future.done() and not self._has_started(future.id):
                    future.cancel()
        if wait:
            concurrent.futures.wait(pending)
            self._close()
        elif not pending:
            self._close()

    def _has_started(self, job_id: str) -> bool:
        try:
            return self._jobs.job(job_id).status not in _BEFORE
        except QueryError:
            return False  # The coordinator did not keep it.

    def _forget(self, future: concurrent.futures.Future[Any]) -> None:
        assert isinstance(future, LineshaftFuture), "only our own have this callback"
        # Without the lock, which who submits holds while it packs, be it gigabytes: this is the
        # client's own thread, which must go on.
        self._pending.pop(future, None)

    def _close(self) -> None:
        if self._owned is not None:
            self._owned.close()


def _flattened(chunks: Iterator[list[ResultT]]) -> Iterator[ResultT]:
    for chunk in chunks:
        yield from chunk
