"""Real runners in real processes; no test may leave one behind."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, processes_of


@pytest.fixture
def state_folder(tmp_path: Path) -> Iterator[Path]:
    """A state folder that is empty of processes and sockets in the end."""
    folder = tmp_path / "state"
    yield folder
    left = processes_of(folder)
    for pid in left:
        os.kill(pid, 9)
    assert left == []
    assert [path for path in folder.glob("**/*") if path.is_socket()] == []


@pytest.fixture
async def bench(state_folder: Path) -> AsyncIterator[ExecutionBench]:
    """An execution that is open."""
    bench = ExecutionBench(state_folder)
    await bench.execution.open()
    yield bench
    await bench.close()
