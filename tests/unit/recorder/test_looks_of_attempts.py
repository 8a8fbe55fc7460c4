"""Where the recorder looks for the machine of a job that is tried more than once."""

from pathlib import Path

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.samples import started, submitted

from lineshaft_coordinator.core.io import Append, AppendEvents
from lineshaft_coordinator.core.records import AttemptStarted
from lineshaft_coordinator.recorder.gauges import Gauges
from lineshaft_coordinator.recorder.looks import columns_of
from lineshaft_coordinator.recorder.supervisor import Recorder
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import ClientId, JobId, WorkerId
from lineshaft_protocol.worker_messages import Held

J1, W1, W2 = JobId("j1"), WorkerId("w1"), WorkerId("w2")
TOLD = JobEvent(job_id=J1, attempt=1, seq=1, at=1.0, kind="metrics", body={"loss": 1.0})


class Shop:
    """Two workers, of which the first runs a job that told a number."""

    def __init__(self, folder: Path) -> None:
        self._bench = CoordinatorBench()
        self._bench.given(submitted("j1"), started("j1", 1, on="w1"))
        held = (Held(job_id=J1, attempt=1, is_running=True),)
        self._bench.worker("w1", held=held)
        self._bench.worker("w2", incarnation="i2")
        self.fleet = self._bench.shop.fleet
        self.beat(1, 2)
        self.gauges = Gauges(self.fleet)
        ledger = self._bench.shop.ledger
        self.recorder = Recorder(folder, ledger, has_past=False, gauges=self.gauges)
        self.recorder.tap([AppendEvents((TOLD,), ClientId("c"))])

    def beat(self, first: int, second: int) -> None:
        """Both workers say how busy they are, in per cent."""
        for worker_id, per_cent in ((W1, first), (W2, second)):
            self.fleet.workers[worker_id].load = {"cpu_usage": per_cent / 100}

    def try_again(self, record: AttemptStarted, *, is_backlog: bool = False) -> None:
        """The attempt is over; the next is given to the second worker."""
        lease = self.fleet.workers[W1].vacate(J1)
        assert lease is not None, "it ran there"
        is_unplaced = bool(record.is_unplaced)
        self.fleet.workers[W2].keep(J1, lease, is_backlog=is_backlog, is_unplaced=is_unplaced)
        self.recorder.tap([Append(record)])

    def seen(self) -> list[float]:
        """How busy the machine was, at each look."""
        return [columns_of(seen)["cpu.util_pct"] for _, seen in self.gauges.take().get(J1, [])]


def test_s004_18_the_machine_of_a_job_is_that_of_its_last_attempt(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    shop.try_again(started("j1", 2, on="w2"))
    shop.beat(3, 4)
    shop.gauges.end(J1, 9.0)

    assert shop.seen() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("is_backlog", [False, True])
def test_where_an_attempt_has_no_place_yet_the_last_ones_is_not_told(
    tmp_path: Path, *, is_backlog: bool
) -> None:
    shop = Shop(tmp_path)
    again = started("j1", 2, on="w2").model_copy(update={"is_unplaced": not is_backlog or None})

    shop.try_again(again, is_backlog=is_backlog)
    shop.beat(3, 4)
    shop.gauges.end(J1, 9.0)

    assert shop.seen() == [1.0]
