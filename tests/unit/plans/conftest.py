import pytest
from tests.unit.plans.plan_bench import PlanBench


@pytest.fixture
def bench() -> PlanBench:
    return PlanBench()
