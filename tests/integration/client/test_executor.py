"""The executor in the place of one from concurrent.futures."""

import concurrent.futures
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.client.conftest import until

from lineshaft import Client, Executor

WAIT_S = 30.0


def double(x: int) -> int:
    return 2 * x


def wait_for(path: str) -> str:
    import time as remote_time  # noqa: PLC0415 - on the worker
    from pathlib import Path as Remote  # noqa: PLC0415 - likewise

    Remote(f"{path}.started").touch()
    deadline_s = remote_time.monotonic() + 60  # For a test that fails before it opens the gate.
    while not Remote(path).exists() and remote_time.monotonic() < deadline_s:
        remote_time.sleep(0.02)
    return path


@pytest.fixture
def executor(client: Client) -> Iterator[Executor]:
    with Executor(client) as made:
        yield made


def test_calls_keep_all_their_arguments(executor: Executor) -> None:
    def function(**given: object) -> dict[str, object]:
        return given

    assert executor.submit(function, name=1, retries=2).result(WAIT_S) == {"name": 1, "retries": 2}


def test_a_map_is_in_order_with_and_without_chunks(executor: Executor) -> None:
    assert list(executor.map(double, range(20))) == [2 * i for i in range(20)]
    assert list(executor.map(double, range(25), chunksize=10)) == [2 * i for i in range(25)]


def test_a_map_gives_up_after_its_timeout(executor: Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    results = executor.map(wait_for, [str(gate)], timeout=0.2)

    with pytest.raises(TimeoutError):
        next(results)
    gate.touch()


def test_a_call_that_is_packed_keeps_no_other_from_being_heard_of(
    executor: Executor, tmp_path: Path
) -> None:
    gate, told = tmp_path / "gate", threading.Event()

    class Large:
        was_told = False

        def __reduce__(self) -> tuple[type[int], tuple[int]]:
            gate.touch()
            Large.was_told = told.wait(WAIT_S)
            return int, (4,)

    first = executor.submit(wait_for, str(gate))
    first.add_done_callback(lambda _: told.set())

    assert executor.submit(double, Large()).result(WAIT_S) == 8  # type: ignore[arg-type]  # an int, there
    assert Large.was_told


def test_an_impossible_chunk_size_is_refused(executor: Executor) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(double, [1], chunksize=0)


def test_leaving_the_block_waits_for_all_calls(client: Client) -> None:
    with Executor(client) as executor:
        futures = [executor.submit(double, i) for i in range(20)]

    assert all(future.done() for future in futures)
    assert client.submit(double, 4).result(WAIT_S) == 8


def test_nothing_is_taken_after_a_shutdown(client: Client) -> None:
    executor = Executor(client)
    executor.shutdown()

    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)


def test_a_shutdown_may_cancel_what_has_not_started(client: Client, tmp_path: Path) -> None:
    gates = [tmp_path / "gate0", tmp_path / "gate1"]
    executor = Executor(client)
    running = [executor.submit(wait_for, str(gate)) for gate in gates]
    until(lambda: all(Path(f"{gate}.started").exists() for gate in gates))
    until(lambda: all(client.job(future.id).status == "running" for future in running))
    waiting = [executor.submit(double, i) for i in range(3)]

    executor.shutdown(wait=False, cancel_futures=True)

    assert [future.cancelled() for future in waiting] == [True] * 3
    assert not any(future.cancelled() for future in running)
    for gate in gates:
        gate.touch()
    assert [future.result(WAIT_S) for future in running] == [str(gate) for gate in gates]


def test_it_can_be_used_where_an_executor_is_asked_for(executor: Executor) -> None:
    def count(pool: concurrent.futures.Executor) -> int:
        return sum(pool.map(double, range(5)))

    assert count(executor) == 20
    started_s = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - started_s < WAIT_S
