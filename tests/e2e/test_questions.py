"""What the coordinator answers about its jobs."""

from pathlib import Path
from typing import Any, cast

from tests.e2e.farm import Farm, until


def hold(gate: str) -> None:
    import os
    import signal

    while not os.path.exists(gate):
        signal.sigtimedwait((), 0.02)


def test_jobs_are_found_by_where_they_are_however_many_wait(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made, gate = empty_farm, tmp_path / "gate"
    made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        first = client.submit(hold, str(gate))
        until(lambda: client.jobs(status="running"), what="it runs")
        for _ in range(5):
            client.submit(hold, str(gate))
        until(lambda: len(cast("list[Any]", client.jobs(status="live"))) == 6, what="all are there")

        # The one that runs was submitted before all others, and is the last of any page.
        running = cast("list[dict[str, Any]]", client.jobs(status="running", limit=1))

        assert [job["job_id"] for job in running] == [first.id]
        assert len(cast("list[Any]", client.jobs(status="live", limit=4))) == 4
        gate.touch()
