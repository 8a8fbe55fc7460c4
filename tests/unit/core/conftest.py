"""Benches: one core each, with what surrounds it said in a few words."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.worker_bench import WorkerBench


@pytest.fixture
def coordinator() -> CoordinatorBench:
    return CoordinatorBench()


@pytest.fixture
def worker() -> WorkerBench:
    return WorkerBench()
