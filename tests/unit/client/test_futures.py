"""Futures of jobs, in the eyes of concurrent.futures."""

import base64
import concurrent.futures
import gc
import pickle
import threading

import pytest

from lineshaft.errors import ClientClosedError, JobCancelledError, PackingError
from lineshaft.futures import LineshaftFuture
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_runtime.packing import pack_bytes

SUCCEEDED = Outcome(job_id="j1", status="succeeded", attempt=1)
CANCELLED = Outcome(job_id="j1", status="cancelled", attempt=1, reason="by somebody else")
FAILED = Outcome(
    job_id="j1",
    status="failed",
    attempt=1,
    failure=Failure(
        cause="exception",
        message="no",
        pickled=base64.b64encode(pickle.dumps(ValueError("no"))).decode(),
    ),
)


class Unpickled:
    """Remembers in which thread it was made again."""

    threads: list[threading.Thread] = []  # noqa: RUF012 - cleared by its one test

    def __setstate__(self, state: object) -> None:
        self.threads.append(threading.current_thread())


class Interrupted:
    """Ctrl-C comes while it is made again, once."""

    keys: list[str] = []  # noqa: RUF012 - filled by its one test

    def __setstate__(self, state: object) -> None:
        if self.keys:
            self.keys.clear()
            raise KeyboardInterrupt

    def __getstate__(self) -> str:
        return "some"


@pytest.fixture
def cancelled() -> list[str]:
    return []


@pytest.fixture
def future(cancelled: list[str]) -> LineshaftFuture[object]:
    return LineshaftFuture("j1", lambda told, _, reason: told.append(reason), cancelled)


def test_a_future_gives_the_result(future: LineshaftFuture[object]) -> None:
    future.settle(SUCCEEDED, pack_bytes({"a": 1}))

    assert future.done()
    assert future.result() == {"a": 1}
    assert future.exception() is None
    assert future.result() is future.result()


def test_a_future_raises_what_the_function_raised(future: LineshaftFuture[object]) -> None:
    future.settle(FAILED, None)

    with pytest.raises(ValueError, match="no"):
        future.result()
    assert isinstance(future.exception(), ValueError)


def test_a_result_can_be_asked_for_again_after_an_interrupt(
    future: LineshaftFuture[object],
) -> None:
    future.settle(SUCCEEDED, pack_bytes(Interrupted()))
    Interrupted.keys.append("Ctrl-C")

    with pytest.raises(KeyboardInterrupt):
        future.result()

    assert isinstance(future.result(), Interrupted)


def test_a_future_waits_no_longer_than_it_is_told(future: LineshaftFuture[object]) -> None:
    with pytest.raises(TimeoutError):
        future.result(0)


def test_a_result_that_cannot_be_read_is_an_error(future: LineshaftFuture[object]) -> None:
    future.settle(SUCCEEDED, b"rubbish")

    with pytest.raises(PackingError):
        future.result()


def test_waiting_functions_take_the_future(future: LineshaftFuture[object]) -> None:
    other: LineshaftFuture[object] = LineshaftFuture("j2", lambda *_: None, None)
    future.settle(FAILED, None)

    done, waiting = concurrent.futures.wait(
        [future, other], return_when=concurrent.futures.FIRST_EXCEPTION
    )

    assert (done, waiting) == ({future}, {other})
    assert next(concurrent.futures.as_completed([future, other])) is future


def test_cancelling_the_future_cancels_the_job(
    future: LineshaftFuture[object], cancelled: list[str]
) -> None:
    assert future.cancel()
    assert future.cancel()

    assert len(cancelled) == 1
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    future.settle(SUCCEEDED, pack_bytes(1))  # It was too late; nobody cares.
    assert future.cancelled()


def test_a_job_that_somebody_else_cancels_cancels_the_future(
    future: LineshaftFuture[object], cancelled: list[str]
) -> None:
    future.settle(CANCELLED, None)

    assert future.cancelled()
    assert cancelled == []
    with pytest.raises(JobCancelledError, match="by somebody else"):
        future.result()


def test_what_is_done_cannot_be_cancelled(
    future: LineshaftFuture[object], cancelled: list[str]
) -> None:
    future.settle(SUCCEEDED, pack_bytes(1))

    assert not future.cancel()
    assert cancelled == []


def test_a_future_of_a_closed_client_says_so(future: LineshaftFuture[object]) -> None:
    future.settle(ClientClosedError("j1"), None)

    with pytest.raises(ClientClosedError, match=r"client.job\('j1'\)"):
        future.result()


def test_a_callback_may_ask_for_the_result(future: LineshaftFuture[object]) -> None:
    seen: list[object] = []
    future.add_done_callback(lambda done: seen.append(done.result()))

    future.settle(SUCCEEDED, pack_bytes(7))

    assert seen == [7]


def test_the_result_is_unpickled_by_who_asks_for_it(future: LineshaftFuture[object]) -> None:
    value = Unpickled()
    value.__dict__["x"] = 1
    data = pack_bytes(value)
    Unpickled.threads.clear()
    settling = threading.Thread(target=future.settle, args=(SUCCEEDED, data))
    settling.start()
    settling.join()

    assert Unpickled.threads == []
    future.result()

    assert Unpickled.threads == [threading.current_thread()]


def test_a_waiting_future_is_little_for_the_garbage_collector() -> None:
    futures: list[LineshaftFuture[object]] = []

    def cancel(owner: None, job_id: str, reason: str) -> None:
        raise AssertionError((owner, job_id, reason))

    before = len(gc.get_objects())

    futures += [LineshaftFuture("j1", cancel, None) for _ in range(1000)]

    # Itself and its condition; Python's own has five times as many.
    assert len(gc.get_objects()) - before < 2500


def test_a_future_is_like_one_of_python(future: LineshaftFuture[object]) -> None:
    plain: concurrent.futures.Future[object] = concurrent.futures.Future()

    for field, value in vars(plain).items():
        if field != "_condition":
            assert getattr(future, field) == value


def test_several_threads_may_wait_for_a_future(future: LineshaftFuture[object]) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(future.result, 30) for _ in range(4)]
        future.settle(SUCCEEDED, pack_bytes(7))

        assert [each.result() for each in waiting] == [7] * 4


def _waited_for() -> type:
    """Have a future waited for twice and settled; returns what both waited by."""
    future: LineshaftFuture[object] = LineshaftFuture("j1", lambda *_: None, None)
    waiter = threading.Thread(target=future.result, args=(20,))
    waiter.start()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    future.settle(SUCCEEDED, pack_bytes("done"))
    waiter.join()
    return type(future._condition)


def test_a_future_that_was_waited_for_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        kind = _waited_for()

        assert [each for each in gc.get_objects() if type(each) is kind] == []
    finally:
        gc.enable()
