"""Functions on real workers: right results, own exceptions, and typed errors for bad input."""

import concurrent.futures
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, farm, until
from tests.e2e.rawclient import RawClient

import lineshaft
from lineshaft import Client, Executor
from lineshaft_protocol.jobs import JobSpec, Payload


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


def test_a_function_gives_its_result(client: Client) -> None:
    assert client.submit(lambda a, b: a * b, 6, b=7).result(20) == 42


def test_an_exception_arrives_as_its_own_type_with_the_remote_traceback(client: Client) -> None:
    class TooHotError(ValueError):
        pass

    def measure(degrees: int) -> None:
        raise TooHotError(f"{degrees} degrees")

    future = client.submit(measure, 99)

    with pytest.raises(Exception, match="99 degrees") as raised:
        future.result(20)
    assert type(raised.value).__name__ == "TooHotError"
    assert isinstance(raised.value, ValueError)
    told = "".join([*getattr(raised.value, "__notes__", ()), str(raised.value.__cause__)])
    assert "in measure" in told


def test_wait_and_as_completed_of_the_standard_library_take_our_futures(client: Client) -> None:
    futures = [client.submit(pow, n, 2) for n in range(20)]

    done, waiting = concurrent.futures.wait(futures, timeout=20)

    assert not waiting
    assert sorted(f.result() for f in concurrent.futures.as_completed(done)) == [
        n * n for n in range(20)
    ]


def test_the_executor_is_a_real_one(pair: Farm) -> None:
    with pair.client() as client, Executor(client) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert list(executor.map(divmod, [7, 9], [2, 4])) == [(3, 1), (2, 1)]

    with pytest.raises(RuntimeError):
        executor.submit(print)


def test_200_submits_of_four_clients_are_all_right_and_no_slot_is_used_twice(
    pair: Farm, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    journal.touch()

    def work(number: int, file: str) -> int:
        # The job's own journal: when it had a slot of this worker.
        began = time.monotonic_ns()
        total = sum(i * number for i in range(20_000))
        line = f"{os.getppid()} {os.getpid()} {began} {time.monotonic_ns()}\n"
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        return total

    clients = [pair.client(client_id=f"client-{n}") for n in range(4)]
    results: dict[int, int] = {}

    def submit_all(index: int) -> None:
        numbers = range(index * 50, index * 50 + 50)
        futures = {n: clients[index].submit(work, n, str(journal)) for n in numbers}
        results.update({n: future.result(60) for n, future in futures.items()})

    threads = [threading.Thread(target=submit_all, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    for made in clients:
        made.close()

    assert results == {n: sum(i * n for i in range(20_000)) for n in range(200)}
    runs = [tuple(map(int, line.split())) for line in journal.read_text().splitlines()]
    assert len(runs) == 200, "each ran once"
    assert len({(shim, pid) for shim, pid, _, _ in runs}) <= 4, "two workers with two slots each"
    busy: Counter[int] = Counter()
    for _, pid, _, _ in runs:
        busy[pid] += 1
    for pid in busy:
        spans = sorted((began, ended) for _, p, began, ended in runs if p == pid)
        overlaps = [a for a, b in pairwise(spans) if a[1] > b[0]]
        assert not overlaps, "a slot runs one job at a time"


def hold_the_gil(seconds: float) -> str:
    # PyDLL keeps the interpreter lock while the C function runs.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "held"


def test_a_job_that_holds_the_gil_costs_no_heartbeat_and_can_be_cancelled(tmp_path: Path) -> None:
    with farm(tmp_path, "heartbeat_s=0.5", "suspect_s=1.5", "silence_s=2.0") as made:
        made.start_worker("w1", "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            future = client.submit(hold_the_gil, 20.0)
            worst = 0.0
            until(lambda: future.running() or client.jobs(status="running"), what="it runs")
            deadline = time.monotonic() + 6
            while time.monotonic() < deadline:
                worst = max(worst, Farm.here(client)["w1"]["silent_s"])
            assert worst < 1.5, "every heartbeat came"

            future.cancel()

            with pytest.raises(concurrent.futures.CancelledError):
                future.result(20)
            assert client.submit(pow, 2, 5).result(20) == 32


# --- bad input ---


def test_an_unpicklable_argument_is_named(client: Client) -> None:
    with pytest.raises(lineshaft.LineshaftError, match="lock"):
        client.submit(print, {"a": threading.Lock()})


def test_an_unpicklable_function_is_named(client: Client) -> None:
    lock = threading.Lock()

    with pytest.raises(lineshaft.LineshaftError, match="lock"):
        client.submit(lambda: lock.acquire(timeout=1))


def test_a_function_of_the_users_own_module_travels_with_it(pair: Farm, tmp_path: Path) -> None:
    (tmp_path / "mytrainer.py").write_text("FACTOR = 3\ndef train(x):\n    return x * FACTOR\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import lineshaft, mytrainer\n"
        "with lineshaft.Client() as client:\n"
        "    print(client.submit(mytrainer.train, 14).result(20))\n"
    )

    ran = subprocess.run(
        [sys.executable, str(script)],
        env=pair.environ,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.stdout == "42\n", ran.stderr


def test_a_tag_that_no_worker_has_is_refused_with_what_there_is(client: Client) -> None:
    def refused() -> str:
        try:
            client.submit(pow, 2, 2, tags=["quantum"]).result(1)
        except lineshaft.LineshaftError as error:
            return str(error)
        except TimeoutError:
            return ""
        return ""

    # For a moment after its start the coordinator waits for workers that may yet come.
    text = until(refused, what="refused")
    assert "quantum" in text
    assert "queue_timeout" in text


def test_more_gpus_than_any_worker_has_are_refused(client: Client) -> None:
    until(lambda: Farm.here(client), what="workers")
    with pytest.raises(lineshaft.LineshaftError, match="GPU"):
        client.submit(pow, 2, 2, resources={"gpus": 64}).result(20)


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (lambda: os._exit(7), "status 7"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
    ],
    ids=["os._exit", "segfault"],
)
def test_a_process_that_dies_says_how_and_its_slot_lives_on(
    client: Client, deed: object, told: str
) -> None:
    with pytest.raises(lineshaft.LineshaftError, match=told):
        client.submit(deed).result(30)  # type: ignore[arg-type]

    assert client.submit(pow, 3, 2).result(30) == 9


def test_a_result_that_cannot_be_pickled_is_an_error_and_not_silence(client: Client) -> None:
    with pytest.raises(lineshaft.LineshaftError, match="lock"):
        client.submit(lambda: {"lock": threading.Lock()}).result(20)


def test_payloads_of_another_python_are_refused_with_both_versions_named(pair: Farm) -> None:
    with RawClient(pair) as raw:
        refused = raw.submit(
            JobSpec(
                job_id="from-another-python",
                kind="function",
                payload=Payload.of_bytes(b"x"),
                python="3.99",
            )
        )

    assert refused.code == "unplaceable"
    assert "3.99" in refused.message
