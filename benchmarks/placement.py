"""What one decision costs the coordinator's core, by how much waits; no socket, no disk, no clock.

    python -m benchmarks.placement [--workers 1000] [--queued 1000,10000,100000]

An attempt ends, which frees a slot, and the next job of 20 shapes is placed on it: that is one call
of the core. Times are processor time of this thread, so other load on the machine matters little.
Prints a JSON line for each length of the queue.
"""

import argparse
import gc
import itertools
import json
import random
import time
from collections import deque

from benchmarks.processes import MIB
from benchmarks.scale import SHAPE_COUNT
from lineshaft_coordinator.core.io import Connected, Effect, Received, Send
from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_protocol.client_messages import ClientHello, Submit
from lineshaft_protocol.ids import Session
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import AttemptResult
from lineshaft_protocol.resources import Capacity, Resources
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.worker_messages import Assign, Ended, Register
from lineshaft_runtime.loops import GC_MIDDLE, GC_OLD, GC_YOUNG

DECISIONS = 20_000
RUN_S = 4.0
CLIENT = Session(1)


class Bench:
    """A core with its workers, all of them busy, and so many jobs waiting."""

    def __init__(self, worker_count: int) -> None:
        self._now = 0.0
        self._numbers = itertools.count(1)
        self._running: deque[tuple[Session, Assign]] = deque()
        self._core = CoordinatorCore(
            CoreSettings(), ledger=Ledger.replay([]), epoch=1, now=self._now
        )
        self._now += 60.0  # Right after its start a coordinator refuses nothing, and looks at less.
        self._core.handle((Connected(CLIENT, "client"),), self._now)
        self._tell(CLIENT, ClientHello(client_id="c", versions=Versions()))
        for number in range(worker_count):
            session = Session(number + 2)
            self._core.handle((Connected(session, "worker"),), self._now)
            register = Register(
                worker_id=f"w{number}",
                capabilities={},
                versions=Versions(),
                capacity=Capacity(slots=1, cpus=4, memory_bytes=1 << 36),
                incarnation="first",
            )
            self._tell(session, register)

    def _tell(self, session: Session, message: object) -> list[Effect]:
        # Time stands still, so that nobody is silent for too long.
        received = Received(session, message)  # type: ignore[arg-type]
        effects = self._core.handle((received,), self._now)
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Assign):
                self._running.append((effect.session, effect.message))
        return effects

    def submit(self, count: int) -> float:
        """Add jobs; return what one costs, in seconds of processor time."""
        begin = time.thread_time()
        for number in itertools.islice(self._numbers, count):
            spec = JobSpec(
                job_id=f"{number:016x}",
                kind="function",
                payload=Payload(inline="aGk="),
                resources=Resources(memory_bytes=(1 + number % SHAPE_COUNT) * MIB),
            )
            # As clients say it: a job that may be known would be looked for in the history first.
            self._tell(CLIENT, Submit(job=spec, is_fresh=True))
        return (time.thread_time() - begin) / max(count, 1)

    @property
    def waiting(self) -> int:
        """Jobs that wait for a worker."""
        return len(self._core.shop.queues)

    def decide(self, count: int, draw: random.Random) -> list[float]:
        """End attempts, one after the other; what each costs, placing the next job included."""
        times: list[float] = []
        for _ in range(count):
            self._running.rotate(draw.randrange(8))
            session, assign = self._running.popleft()
            result = AttemptResult(
                job_id=assign.job.job_id, attempt=assign.attempt, status="succeeded", run_s=RUN_S
            )
            begin = time.thread_time()
            self._tell(session, Ended(result=result))
            times.append(time.thread_time() - begin)
        return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--queued", default="1000,10000,100000")
    chosen = parser.parse_args()
    gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)
    bench, draw = Bench(chosen.workers), random.Random(0)
    bench.submit(chosen.workers)
    for queued in map(int, chosen.queued.split(",")):
        submit_s = bench.submit(queued - bench.waiting)
        count = min(DECISIONS, queued // 2)
        times = bench.decide(count, draw)
        line = {
            "what": "placement",
            "workers": chosen.workers,
            "queued": queued,
            "submit_us": round(1e6 * submit_s, 1),
            "decision_mean_us": round(1e6 * sum(times) / count, 1),
            "decision_p50_us": round(1e6 * times[count // 2], 1),
            "decision_p99_us": round(1e6 * times[count * 99 // 100], 1),
            "decision_max_us": round(1e6 * times[-1], 1),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
