"""The public API as its users write it, for the type checker; nothing here is ever run.

A line that must be refused has a `type: ignore` with the refusal's name: if the checker accepts
the line, it complains about the comment.
"""

import concurrent.futures
from collections.abc import Generator, Iterator
from typing import assert_type

from pydantic import JsonValue

import lineshaft
from lineshaft import AsyncClient, AsyncJob, Client, Executor, Filter, Graph, Pipeline, run
from lineshaft.fitted import Fitted
from lineshaft.job_events import Event


def double(x: int) -> float:
    return x * 2.0


class Scale(Filter):
    def fit(self, x: list[float]) -> float:
        return max(x)

    def forward(self, x: list[float], state: float) -> list[float]:
        return [each / state for each in x]


def futures() -> None:
    with Client() as client:
        future = client.submit(double, 3)
        assert_type(future.result(), float)
        job_id: str = future.id
        client.submit(double, 4, after=[future, job_id])
        assert_type(client.map(double, [1, 2, 3]), Generator[float])
        assert_type(client.options(retries=2).submit(double, 3).result(timeout=10), float)
        client.options(retrys=2)  # type: ignore[call-arg]
        client.options(retries="two")  # type: ignore[arg-type]
        client.submit(3)  # type: ignore[arg-type]


def executors() -> None:
    with Executor(resources={"gpus": 1, "gpu_memory": "20GiB"}) as executor:
        anybody: concurrent.futures.Executor = executor
        assert_type(anybody.submit(double, 3), concurrent.futures.Future[float])
        assert_type(executor.submit(double, 3).result(), float)
        assert_type(executor.map(double, [1, 2]), Iterator[float])
        executor.submit(double, "three")  # type: ignore[arg-type]


def pipelines(client: Client) -> None:
    fitted = client.fit(Pipeline([("scale", Scale())]), [1.0, 2.0])
    assert_type(fitted, Fitted)
    assert_type(client.forward(fitted, [3.0]), object)
    graph = Graph.of(Scale() >> (Scale() | Scale()))
    assert_type(graph, Graph)
    client.fit(Scale(), [1.0])  # type: ignore[arg-type]


def jobs(client: Client) -> None:
    job = client.run("train.py:main", files=["train.py"], params={"lr": 1e-3}, timeout=60)
    assert_type(job, lineshaft.Job[object])
    assert_type(job.events(), Generator[Event])
    assert_type(job.result(timeout=60), object)
    assert_type(client.why(job.id), JsonValue)
    client.run("train.py", entry="main")  # type: ignore[call-arg]


async def asynchronously() -> None:
    async with AsyncClient("wss://head:7433") as client:
        job = client.submit(double, 3)
        assert_type(job, AsyncJob[float])
        assert_type(await job, float)


def inside_a_job() -> None:
    run.progress(3, 10, phase="train")
    run.log({"loss": 0.5}, step=3)
    run.checkpoint("model.pt", step=3)
    run.progress("three")  # type: ignore[arg-type]
    assert_type(run.should_pause(), bool)
