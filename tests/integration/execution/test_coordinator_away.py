"""What is told while nobody acknowledges waits in its files, and comes later, once."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft_worker.execution import feed
from lineshaft_worker.execution.reports import AttemptEnded, AttemptEvents

TOLD = 25_000
ROOM = 10_000
"""So many events of an attempt the core keeps for a coordinator that is away."""
FLOOD = """
import signal
from pathlib import Path
from lineshaft import run
for step in range(run.params["told"]):
    run.log({"loss": 0.5}, step=step)
Path(run.params["there"]).touch()
gate = Path(run.params["gate"])
while not gate.exists():
    signal.sigtimedwait((), 0.005)
"""

PRINTS = """
import signal
from pathlib import Path
print("x" * 1000, end="", flush=True)
while not Path({gate!r}).exists():
    signal.sigtimedwait((), 0.005)
print("y" * 70, end="", flush=True)
"""


async def test_no_more_is_handed_out_than_there_is_room_for_and_all_of_it_comes(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    there, gate = tmp_path / "there", tmp_path / "gate"
    params = {"told": TOLD, "there": str(there), "gate": str(gate)}
    key = bench.run({"job.py": FLOOD}, "job.py", params=params)
    await until(there.exists)
    # Its watchdog hears that it is not silent.
    await until(lambda: any(not report.events for report in bench.of(AttemptEvents, key)))
    handed_out = len(bench.events(key))

    gate.touch()
    counts = [handed_out]

    def has_ended() -> bool:
        seqs = [seq for seq, *_ in bench.events(key)]
        counts.append(len(seqs))
        bench.execution.events_kept(key, seqs[-1])
        return bool(bench.of(AttemptEnded, key))

    await until(has_ended)

    assert handed_out < ROOM
    assert max(after - before for before, after in pairwise(counts)) < ROOM
    assert [body["step"] for _, kind, body in bench.events(key) if kind == "metrics"] == list(
        range(TOLD)
    )


async def test_the_last_events_wait_for_as_long_as_the_lease_allows(
    bench: ExecutionBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PATIENCE_S", 0.0)
    there, gate = tmp_path / "there", tmp_path / "gate"
    gate.touch()
    params = {"told": TOLD, "there": str(there), "gate": str(gate)}
    loop = asyncio.get_running_loop()
    bench.execution.feed.heard(loop.time())
    key = bench.run({"job.py": FLOOD}, "job.py", params=params, lease_s=3600.0)
    attempt = bench.execution._attempts[key]
    await until(lambda: attempt.host and bench.execution.feed.is_draining(attempt.host))
    for _ in range(200):  # More turns of the loop than it needs to hand out all of them.
        await asyncio.sleep(0)

    assert len(bench.events(key)) < ROOM
    assert not bench.of(AttemptEnded, key)

    # Now it is older than its share, as if nobody had answered for so long.
    bench.execution.feed.heard(loop.time() - 3600.0 * feed.LEASE_SHARE)
    await bench.ended(key)
    assert len(bench.events(key)) >= TOLD


async def test_what_is_not_acknowledged_is_counted_in_bytes_also_after_the_end(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = PRINTS.format(gate=str(gate))
    assert bench.execution.spool_bytes() == 0
    key = bench.run({"job.py": script}, "job.py")
    await until(lambda: bench.text(key) == "x" * 1000)
    assert bench.execution.spool_bytes() == 1000

    bench.execution.events_kept(key, bench.events(key)[-1][0])
    assert bench.execution.spool_bytes() == 0

    gate.touch()
    await bench.ended(key)
    assert bench.execution.spool_bytes() == 70
    bench.execution.settled(key)
    assert bench.execution.spool_bytes() == 0
