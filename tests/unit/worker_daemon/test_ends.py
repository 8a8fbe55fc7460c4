"""What the coordinator is told of an attempt's end, whatever its runner said of it."""

import math

import pytest

from lineshaft_protocol.wire import NUMBER_MAX
from lineshaft_worker.daemon.translation import result_of
from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.execution.reports import AttemptEnded, Succeeded


def ended(run_s: float, peak_bytes: int | None = None) -> AttemptEnded:
    return AttemptEnded(
        AttemptKey("j", 1), Succeeded(b""), run_s, 1.0, peak_bytes, processes_gone=True
    )


@pytest.mark.parametrize("run_s", [math.nan, math.inf, -math.inf, -1.0])
def test_a_time_that_is_none_is_not_told(run_s: float) -> None:
    assert result_of(ended(run_s))[0].run_s == 0.0
    assert result_of(ended(2.5))[0].run_s == 2.5


def test_more_memory_than_there_can_be_is_told_as_the_most_that_can_be_said() -> None:
    assert result_of(ended(1.0, 2**60))[0].peak_memory_bytes == NUMBER_MAX
    assert result_of(ended(1.0, 4096))[0].peak_memory_bytes == 4096
    assert result_of(ended(1.0))[0].peak_memory_bytes is None
