"""Streams from end to end: order, flow, failures, and cuts of everything on the way."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.farm import Farm, until

import lineshaft
from lineshaft import AsyncClient, Client
from lineshaft.errors import (
    CannotPackError,
    ChunkFailedError,
    JobCancelledError,
    LineshaftError,
    StreamStateLostError,
)
from lineshaft.filters import Filter
from lineshaft.fitted import Fitted
from lineshaft.pipeline import Pipeline

WINDOW_MIB = 16


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


def double(x):
    return x * 2


DOUBLE = Pipeline([("double", double)])


class Count(Filter):
    """Numbers its chunks, across all it has seen."""

    _kind = "stateless"
    _stream_mode = "evolving"

    def advance(self, x, state):
        state = (state or 0) + 1
        return (state, x), state

    def forward(self, x):
        return x


class Remember(Filter):
    """Keeps what it has seen in the state it is given."""

    _stream_mode = "evolving"

    def forward(self, x, state):
        state.append(x)
        return sum(state)


class Centre(Filter):
    """Needs all there is."""

    _kind = "stateless"
    _stream_mode = "barrier"

    def forward(self, x):
        return x - x.mean()


def test_results_come_in_order_while_chunks_are_still_being_sent(client: Client) -> None:
    seen: list[object] = []
    has_seen = threading.Semaphore(0)

    def source():
        yield 0
        for number in range(1, 20):
            assert has_seen.acquire(timeout=30), "no result before the next chunk"
            yield number

    for result in client.stream(DOUBLE, source(), total_chunks=20):
        seen.append(result)
        has_seen.release()

    assert seen == [2 * number for number in range(20)]


def test_thousands_of_small_chunks_arrive_once_each(client: Client) -> None:
    assert list(client.stream(DOUBLE, range(20_000))) == list(range(0, 40_000, 2))


def test_arrays_come_back_whole_and_aligned(client: Client) -> None:
    chunks = [np.arange(size, dtype=np.float32) for size in (0, 1, 1000, 300_000, 3_000_000)]

    results = list(client.stream(DOUBLE, chunks))

    for chunk, result in zip(chunks, results, strict=True):
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, chunk * 2)
    assert results[-1].flags.aligned  # type: ignore[attr-defined]


def test_a_stream_without_chunks_ends_without_results(client: Client) -> None:
    assert list(client.stream(DOUBLE, [])) == []


def test_an_evolving_filter_hands_its_state_from_chunk_to_chunk(client: Client) -> None:
    stream = client.stream(Pipeline([("count", Count())]), "abc")

    assert list(stream) == [(1, "a"), (2, "b"), (3, "c")]
    fitted = stream.fitted()
    assert fitted.states == {"count": 3}
    assert list(client.stream(fitted, "d")) == [(4, "d")]


def test_an_evolving_filter_may_change_the_state_it_is_given(client: Client) -> None:
    fitted = Fitted(Pipeline([("remember", Remember())]).graph, {"remember": [1, 2]})

    stream = client.stream(fitted, [10, 20])

    assert list(stream) == [13, 33]
    assert stream.fitted().states == {"remember": [1, 2, 10, 20]}
    assert fitted.states == {"remember": [1, 2]}, "what the user has stays as it is"


def test_a_barrier_gives_one_result_of_all_chunks(client: Client) -> None:
    pipeline = Pipeline([("double", double), ("centre", Centre()), ("again", double)])
    chunks = [np.array([1.0, 2.0]), np.array([3.0]), np.array([4.0, 5.0])]

    (result,) = client.stream(pipeline, chunks)

    np.testing.assert_array_equal(result, [-8.0, -4.0, 0.0, 4.0, 8.0])


def test_a_failing_chunk_is_named_after_the_results_before_it(client: Client) -> None:
    def fails_at_five(x):
        if x == 5:
            raise ValueError("five is too much")
        return x

    results: list[object] = []

    stream = client.stream(Pipeline([("f", fails_at_five)]), range(1000))
    with pytest.raises(ChunkFailedError, match=r"chunk 5: .*five is too much") as caught:
        results.extend(next(stream) for _ in range(1000))

    assert results == [0, 1, 2, 3, 4]
    assert caught.value.chunk_index == 5


def test_a_source_that_fails_ends_the_stream_with_its_error(client: Client) -> None:
    def source():
        yield 1
        raise OSError("the tape is torn")

    stream = client.stream(DOUBLE, source())

    with pytest.raises(OSError, match="the tape is torn"):
        list(stream)
    until(lambda: client.job(stream.id).status == "cancelled", what="the job ends")


def test_a_chunk_that_cannot_be_packed_is_named(client: Client) -> None:
    with pytest.raises(CannotPackError, match="chunk 1"):
        list(client.stream(DOUBLE, [1, threading.Lock()]))


def test_a_chunk_that_is_too_long_says_what_to_do(client: Client) -> None:
    with pytest.raises(LineshaftError, match=r"chunk 0 has 1\d{7} bytes.*smaller"):
        list(client.stream(DOUBLE, [bytes(17 * 1024 * 1024)]))
    with pytest.raises(ChunkFailedError, match=r"chunk 0.*the result has.*smaller"):
        list(client.stream(Pipeline([("grow", lambda x: bytes(17 * 1024 * 1024))]), [1]))


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_chunks_than_was_said_is_an_error(client: Client, count: int) -> None:
    with pytest.raises(LineshaftError, match="3 chunks"):
        list(client.stream(DOUBLE, range(count), total_chunks=3))


def test_a_cancelled_stream_ends_its_job(client: Client) -> None:
    gate = threading.Event()

    def source():
        yield 1
        gate.wait(60)

    stream = client.stream(DOUBLE, source())
    assert next(stream) == 2

    stream.cancel("enough")

    with pytest.raises(JobCancelledError, match="enough"):
        next(stream)
    gate.set()


def test_a_stream_that_is_dropped_ends_its_job(client: Client) -> None:
    stream = client.stream(DOUBLE, iter(int, 1))
    assert next(stream) == 0
    stream_id = stream.id

    del stream

    until(lambda: client.job(stream_id).status == "cancelled", what="the job ends")


def test_the_job_is_told_of_like_any_other(client: Client) -> None:
    stream = client.options(name="numbers").stream(DOUBLE, iter(int, 1))
    next(stream)

    jobs = {job["job_id"]: job for job in client.jobs(limit=1000)}  # type: ignore[union-attr, call-overload, index]
    why, story = str(client.why(stream.id)), str(client.story(stream.id))
    stream.close()

    assert (jobs[stream.id]["kind"], jobs[stream.id]["name"]) == ("stream", "numbers")  # type: ignore[index, call-overload]
    assert "w" in why
    assert "AttemptStarted" in story


def mib(count: int) -> bytes:
    return bytes(count * 1024 * 1024)


def test_a_fast_source_waits_for_a_slow_worker(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    pulled: list[int] = []

    def wait_for_gate(x, gate=str(gate)):
        import os
        import signal

        while not os.path.exists(gate):
            signal.sigtimedwait((), 0.01)
        return len(x)

    def source():
        for number in range(80):
            pulled.append(number)
            yield mib(1)

    stream = client.stream(Pipeline([("wait", wait_for_gate)]), source())
    until(lambda: len(pulled) >= WINDOW_MIB, what="the window fills")
    assert client.submit(double, 4).result(30) == 8, "others go on meanwhile"
    held = len(pulled)
    gate.touch()

    assert held <= WINDOW_MIB + 4
    assert list(stream) == [1024 * 1024] * 80


def test_a_fast_worker_waits_for_a_slow_reader(client: Client) -> None:
    pulled: list[int] = []

    def source():
        for number in range(200):
            pulled.append(number)
            yield number

    grow = Pipeline([("grow", lambda x: bytes(1024 * 1024))])
    stream = client.stream(grow, source())
    first = next(stream)
    # A second stream over the same connection, all of it, shows that the first one does not block.
    assert sum(map(len, client.stream(grow, range(100)))) == 100 * 1024 * 1024  # type: ignore[arg-type]
    received = len(stream._flow._results) + len(stream._flow._taken)

    assert len(first) == 1024 * 1024  # type: ignore[arg-type]
    assert received <= WINDOW_MIB + 2
    assert sum(1 for _ in stream) == 199


async def test_an_event_loop_feeds_and_reads_streams_side_by_side(pair: Farm) -> None:
    token = (pair.home / "token").read_text().strip()

    async def source(start):
        for number in range(start, start + 100):
            await asyncio.sleep(0)
            yield number

    async def read(client, start):
        return [result async for result in client.stream(DOUBLE, source(start))]

    async with AsyncClient(pair.url, token=token) as client:
        results = await asyncio.gather(*(read(client, start) for start in (0, 1000, 2000, 3000)))
        stream = client.stream(Pipeline([("count", Count())]), "ab")
        assert [each async for each in stream] == [(1, "a"), (2, "b")]
        assert (await stream.fitted()).states == {"count": 2}

    for start, result in zip((0, 1000, 2000, 3000), results, strict=True):
        assert result == [2 * number for number in range(start, start + 100)]


def cut(client: Client) -> None:
    """Break the client's connection, as a network would."""

    async def abort() -> None:
        connection = client._shell._link._connection
        if connection is not None:
            connection.abort()

    client._thread.run(abort())


def test_a_cut_client_goes_on_where_it_was(client: Client) -> None:
    results: list[object] = []
    for result in client.stream(Pipeline([("count", Count())]), range(3000)):
        results.append(result)
        if len(results) % 700 == 0:
            cut(client)

    assert results == [(number + 1, number) for number in range(3000)]


def test_killed_daemons_interrupt_a_stream_but_lose_nothing(empty_farm: Farm) -> None:
    made = empty_farm
    worker = made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        results: list[object] = []
        stream = client.options(lost_after=60.0).stream(Pipeline([("count", Count())]), range(4000))
        for result in stream:
            results.append(result)
            if len(results) in (500, 2500):
                assert made.coordinator is not None
                made.coordinator.kill()
                made.start_coordinator()
            if len(results) == 1500:
                worker.kill()
                made.start_worker("w1", "--slots", "1")

        assert results == [(number + 1, number) for number in range(4000)]
        (job,) = [each for each in client.jobs() if each["kind"] == "stream"]  # type: ignore[union-attr, index, call-overload]
        assert job["attempt"] == 1  # type: ignore[index, call-overload]


def where(x):
    import os

    return (x, os.getpid())


def test_a_lost_worker_is_replaced_where_no_state_is_lost(empty_farm: Farm) -> None:
    made = empty_farm
    made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        stream = client.options(lost_after=0.5).stream(Pipeline([("where", where)]), range(40_000))
        results = [next(stream) for _ in range(100)]
        lost = made.workers.pop("w1")
        made.start_worker("w2", "--slots", "1")
        made.until_ready(client, "w2")

        lost.kill()
        results += list(stream)

        assert [x for x, _ in results] == list(range(40_000))
        assert len({pid for _, pid in results}) == 2


def test_a_lost_worker_with_a_state_is_an_error_that_says_so(empty_farm: Farm) -> None:
    made = empty_farm
    made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        stream = client.options(lost_after=0.5).stream(Pipeline([("count", Count())]), iter(int, 1))
        assert next(stream) == (1, 0)
        lost = made.workers.pop("w1")
        made.start_worker("w2", "--slots", "1")
        made.until_ready(client, "w2")

        lost.kill()

        with pytest.raises(StreamStateLostError, match="stream again"):
            for _ in stream:
                pass


def test_a_closed_client_ends_its_streams(pair: Farm, client: Client) -> None:
    with pair.client() as other:
        stream = other.stream(DOUBLE, iter(int, 1))
        next(stream)

    until(lambda: client.job(stream.id).status == "cancelled", what="the job ends")
    with pytest.raises(lineshaft.LineshaftError):
        for _ in stream:
            pass
