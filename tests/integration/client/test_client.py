"""What a program without an event loop does with real daemons."""

import asyncio
import concurrent.futures
import os
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.integration.client.conftest import Shop, until

from lineshaft import Client
from lineshaft.errors import (
    CannotPackError,
    ClientClosedError,
    ForkedClientError,
    InvalidJobError,
    JobCancelledError,
    JobNotFoundError,
    NoWorkerFitsError,
    ProcessExitedError,
    ResultError,
)
from lineshaft.job_events import Finished, Log, Metrics, Progress

WAIT_S = 30.0


def add(a: int, b: int = 1) -> int:
    return a + b


def wait_for(path: str) -> str:
    """A job that runs until a file is there."""
    import time  # noqa: PLC0415 - on the worker
    from pathlib import Path as Remote  # noqa: PLC0415 - likewise

    Remote(f"{path}.started").touch()
    deadline_s = time.monotonic() + 60  # For a test that fails before it opens the gate.
    while not Remote(path).exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return path


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], str]:
    """Names of files that long jobs wait for; all are there in the end."""
    names: list[str] = []

    def make() -> str:
        names.append(str(tmp_path / f"gate{len(names)}"))
        return names[-1]

    return make


def has_started(path: str) -> bool:
    return Path(f"{path}.started").exists()


def test_a_call_returns_what_the_function_returns(client: Client) -> None:
    assert client.submit(add, 1, b=2).result(WAIT_S) == 3


def test_an_exception_comes_back_with_the_traceback_of_the_worker(client: Client) -> None:
    class OwnError(Exception):
        pass

    def outer() -> None:
        def inner() -> None:
            raise OwnError("no good")

        inner()

    future = client.submit(outer)

    with pytest.raises(OwnError, match="no good") as caught:
        future.result(WAIT_S)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in inner" in shown
    assert future.id in shown


def test_large_arguments_and_results_arrive_whole(client: Client) -> None:
    array = np.arange(3_000_000, dtype=np.float64)

    result = client.submit(lambda x: x * 2, array).result(WAIT_S)

    assert np.array_equal(result, array * 2)


def test_options_and_arguments_of_the_same_name_do_not_mix(client: Client) -> None:
    def function(**given: object) -> dict[str, object]:
        return given

    assert client.submit(function, a=1, name="job", retries=1).result(WAIT_S) == {"a": 1}
    future = client.options(name="job").submit(function, a=1, name="mine", retries=7)
    assert future.result(WAIT_S) == {"a": 1, "name": "mine", "retries": 7}
    assert client.job(future.id).story()[0]["job"]["name"] == "job"  # type: ignore[index, call-overload]
    with pytest.raises(InvalidJobError):
        client.submit(function, retries="many")


def test_a_map_gives_results_in_the_order_of_its_arguments(client: Client) -> None:
    assert list(client.map(add, range(50), range(50))) == [2 * i for i in range(50)]
    assert list(client.map(add, range(105), chunksize=10)) == list(range(1, 106))
    assert list(client.map(add, [])) == []


def test_waiting_functions_take_futures(client: Client) -> None:
    futures = [client.submit(add, i) for i in range(5)]

    done = list(concurrent.futures.as_completed(futures, timeout=WAIT_S))

    assert {future.result() for future in done} == {1, 2, 3, 4, 5}
    assert concurrent.futures.wait(futures).not_done == set()


def test_cancelling_a_future_stops_the_job(client: Client, gate: Callable[[], str]) -> None:
    path = gate()
    future = client.submit(wait_for, path)
    until(lambda: has_started(path))

    assert future.cancel()

    assert future.cancelled()
    until(lambda: client.job(future.id).status == "cancelled")


def test_what_somebody_else_cancels_is_cancelled_here(
    client: Client, gate: Callable[[], str]
) -> None:
    path = gate()
    future = client.submit(wait_for, path)
    until(lambda: has_started(path))

    client.job(future.id).cancel("no longer needed")

    with pytest.raises(JobCancelledError, match="no longer needed"):
        future.result(WAIT_S)
    assert future.cancelled()


def test_a_job_goes_on_when_its_client_is_closed(shop: Shop, gate: Callable[[], str]) -> None:
    path = gate()
    with shop.client() as first:
        future = first.submit(wait_for, path)
    with pytest.raises(ClientClosedError, match=future.id):
        future.result(WAIT_S)
    with pytest.raises(ClientClosedError):
        first.submit(add, 1)

    Path(path).touch()

    with shop.client() as second:
        assert second.job(future.id).result(WAIT_S) == path


def test_a_result_can_be_had_again_by_the_jobs_id(client: Client) -> None:
    future = client.submit(add, 1)
    future.result(WAIT_S)

    job = client.job(future.id)

    assert job.result(WAIT_S) == 2
    assert job.exception(WAIT_S) is None
    assert job.status == "succeeded"


def test_a_job_can_be_asked_about_right_after_it_was_submitted(client: Client) -> None:
    for _ in range(20):
        future = client.submit(add, 1)
        assert client.job(future.id).status in {"queued", "assigned", "running", "succeeded"}


def test_a_job_that_nobody_knows_is_an_error(client: Client) -> None:
    with pytest.raises(JobNotFoundError):
        client.job("never-submitted").result(WAIT_S)


def test_a_job_comes_after_others(client: Client, gate: Callable[[], str]) -> None:
    path = gate()
    first = client.submit(wait_for, path)
    second = client.submit(add, 1, after=[first])
    until(lambda: has_started(path))
    assert not second.done()

    Path(path).touch()

    assert second.result(WAIT_S) == 2
    assert first.done()


def test_a_job_comes_after_one_whose_arguments_are_still_on_their_way(client: Client) -> None:
    assert client.submit(add, 1).result(WAIT_S) == 2  # Its code is there.

    first = client.submit(len, os.urandom(30_000_000))
    second = client.submit(add, 2, after=[first])

    assert second.result(WAIT_S) == 3
    assert first.result(WAIT_S) == 30_000_000


def test_a_process_that_dies_is_told_with_its_last_words(client: Client) -> None:
    def die() -> None:
        print("famous last words", flush=True)
        os._exit(7)

    with pytest.raises(ProcessExitedError, match="famous last words") as caught:
        client.submit(die).result(WAIT_S)
    assert caught.value.exit_code == 7


def test_a_result_that_cannot_be_sent_names_the_part(client: Client) -> None:
    def lock() -> object:
        return {"rows": [threading.Lock()]}

    with pytest.raises(ResultError, match=r"\['rows'\]\[0\]"):
        client.submit(lock).result(WAIT_S)


def test_an_argument_that_cannot_be_sent_is_named_at_once(client: Client) -> None:
    with pytest.raises(CannotPackError, match=r"args, kwargs"):
        client.submit(add, threading.Lock())


def test_what_no_worker_could_run_is_refused(client: Client) -> None:
    with pytest.raises(NoWorkerFitsError, match="GPU"):
        client.submit(add, 1, resources={"gpus": 64}).result(WAIT_S)


def test_events_come_as_they_happen_and_end_with_the_outcome(client: Client) -> None:
    job = client.run(
        "work.py:main",
        files={"work.py": "from lineshaft import run\n"
               "def main(steps):\n"
               "    for step in range(steps):\n"
               "        run.progress(step, steps, phase='train')\n"
               "    run.log({'loss': 0.5}, step=steps)\n"
               "    print('done')\n"
               "    return steps\n"},
        params={"steps": 3},
    )  # fmt: skip

    events = list(job.events())

    assert [each.step for each in events if isinstance(each, Progress)] == [0, 1, 2]
    assert [each.metrics for each in events if isinstance(each, Metrics)] == [{"loss": 0.5}]
    assert "done" in "".join(each.text for each in events if isinstance(each, Log))
    assert isinstance(events[-1], Finished)
    assert job.result(WAIT_S) == 3
    assert "done" in "".join(job.logs())


def test_questions_are_answered(client: Client) -> None:
    future = client.submit(add, 1)
    future.result(WAIT_S)

    jobs = client.jobs(limit=1)
    assert isinstance(jobs, list)
    assert len(jobs) == 1
    assert "succeeded" in str(client.why(future.id))
    assert future.id in str(client.story(future.id))
    assert "w1" in str(client.workers())
    assert "epoch" in str(client.info())


def test_a_client_works_where_an_event_loop_runs(shop: Shop) -> None:
    async def notebook() -> int:
        with shop.client() as client:
            return client.submit(add, 1).result(WAIT_S)

    assert asyncio.run(notebook()) == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_client_says_that_it_does_not_work_after_a_fork(client: Client) -> None:
    assert client.submit(add, 1).result(WAIT_S) == 2
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.submit(add, 1)
        except ForkedClientError:
            os.write(write, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)

    assert os.read(read, 100) == b"refused"
    os.close(read)
    assert client.submit(add, 1).result(WAIT_S) == 2


def test_ctrl_c_ends_the_waiting_and_not_the_job(client: Client, gate: Callable[[], str]) -> None:
    path = gate()
    future = client.submit(wait_for, path)
    until(lambda: has_started(path))
    job = client.job(future.id)

    for waiting in (future, job):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            waiting.result(WAIT_S)

    assert not future.done()
    Path(path).touch()
    assert future.result(WAIT_S) == path


def test_many_threads_may_use_one_client(client: Client) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: client.submit(add, i).result(WAIT_S), range(200)))

    assert results == [i + 1 for i in range(200)]


def test_a_callback_of_a_future_may_submit(client: Client) -> None:
    following: concurrent.futures.Future[concurrent.futures.Future[int]]
    following = concurrent.futures.Future()
    first = client.submit(add, 1)
    first.add_done_callback(lambda done: following.set_result(client.submit(add, done.result())))

    assert following.result(WAIT_S).result(WAIT_S) == 3
