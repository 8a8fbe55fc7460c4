"""One simulated run: a storm, then calm in which everything must come to its end."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from tests.simulation.checks import Checks
from tests.simulation.client_node import ClientNode
from tests.simulation.coordinator_node import CoordinatorNode
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.load import (
    IMPOSSIBLE,
    MIXED_SHARE,
    Theme,
    Wish,
    capacity_of,
    draw_gangs,
    draw_pauses,
    draw_wishes,
)
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.worker_node import WorkerNode
from tests.simulation.world import SimulationError, World

from lineshaft_coordinator.core.ledger import Paused

STORM_S = 40.0
CALM_S_MAX = 2000.0
"""Much more than all that was asked for takes on one worker."""

QUIET_S = 8.0
PROCESSOR_S_MAX = 10
"""A run takes a fraction of a second; one that takes this long is caught in a loop."""

IDLE_MESSAGES = (b'"Heartbeat"', b'"HeartbeatAck"', b'"Ping"', b'"Pong"')


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went."""

    seed: int
    steps: int
    virtual_s: float
    fingerprint: str
    error: str | None
    marks: Counter[str] = field(default_factory=Counter[str])
    story: tuple[str, ...] = ()


class Run:
    """All of one simulated shop."""

    def __init__(self, seed: int, *, check_every: int = 10) -> None:
        self.world = world = World(seed)
        self.dice = world.random("setup")
        self.faults = Faults.draw(self.dice)
        self.network = Network(world, self.faults)
        self.disk = Disk(seed)
        self.checks = Checks(world, self.disk, every=check_every)
        self.coordinator = CoordinatorNode(world, self.network, self.faults, self.disk, self.checks)
        self.theme: Theme = "mixed"
        if self.dice.random() > MIXED_SHARE:
            self.theme = self.dice.choice(["long", "devices"])
            # What these are about shows only when workers are cut off.
            self.faults.partition_every_s = self.dice.uniform(8.0, 30.0)
            self.faults.stop_ignored = max(self.faults.stop_ignored, 0.5)
        count = self.dice.randint(1, 4) if self.theme == "mixed" else self.dice.randint(2, 3)
        self.workers = [self._worker(index) for index in range(count)]
        self.checks.workers = self.workers
        self.checks.machines = [worker.machine for worker in self.workers]
        self.clients = [self._client(index) for index in range(self.dice.randint(1, 3))]

    def _worker(self, index: int) -> WorkerNode:
        return WorkerNode(
            self.world,
            self.network,
            self.faults,
            self.coordinator,
            self.checks,
            name=f"worker-{index}",
            capacity=capacity_of(index, self.dice),
            tags=("big",) if index == 0 or self.dice.random() < 0.4 else (),
        )

    def _client(self, index: int) -> ClientNode:
        name = f"client-{index}"
        return ClientNode(
            self.world,
            self.network,
            self.faults,
            self.coordinator,
            self.checks,
            name=name,
            wishes=self._wishes(name),
        )

    def _wishes(self, name: str) -> list[Wish]:
        until_s = STORM_S * 0.8
        wishes = draw_wishes(self.world.random(name), name, theme=self.theme, until_s=until_s)
        wishes = draw_pauses(self.world.random(f"{name}/pauses"), wishes)
        if self.theme == "mixed" and len(self.workers) > 1:
            wishes += draw_gangs(self.world.random(f"{name}/gangs"), name, until_s=until_s)
            wishes.sort(key=lambda wish: wish.at)
        return wishes

    # --- the storm ---

    def go(self) -> None:
        """Live through it all.

        Raises:
            Exception: Something that must never happen happened.
        """
        for node in [self.coordinator, *self.workers, *self.clients]:
            self.world.after(self.dice.uniform(0.0, 0.5), node.start)
        self._let_loose()
        self.checks.stays.watch(self.coordinator, self.workers)
        self.world.run(STORM_S)
        self._calm_down()
        self._wait_for_the_end()
        self._check_quiet()

    def _every(self, mean_s: float, action: Callable[[], None]) -> None:
        if mean_s <= 0.0:
            return

        def strike() -> None:
            if self.world.now < STORM_S:
                action()
                self._every(mean_s, action)

        self.world.after(self.dice.expovariate(1.0 / mean_s), strike)

    def _let_loose(self) -> None:
        faults, coordinator = self.faults, self.coordinator
        self._every(faults.coordinator_crash_every_s, lambda: coordinator.crash("is killed"))
        self._every(faults.graceful_stop_every_s, coordinator.stop_gracefully)
        self._every(faults.coordinator_stall_every_s, self._stall)
        self._every(faults.disk_full_every_s, self._fill_disk)
        for worker in self.workers:
            self._every(faults.partition_every_s, lambda w=worker: self._cut_off(w))
            self._every(faults.daemon_crash_every_s, lambda w=worker: self._crash_worker(w))
            self._every(
                faults.drain_every_s,
                lambda w=worker: w.drain(is_hurried=self.dice.random() < 0.3),
            )
            self._every(faults.device_fault_every_s, lambda w=worker: self._break_device(w))
            self._every(faults.worker_stall_every_s, lambda w=worker: self._stall_worker(w))
        for client in self.clients:
            self._every(faults.partition_every_s * 2, lambda c=client: self._cut_off(c))
            self._every(faults.client_crash_every_s, client.crash)
        self._every(faults.operator_drain_every_s, self._drain_some_worker)

    def _stall(self) -> None:
        self.world.mark("stall")
        for_s = self.dice.uniform(1.0, 15.0)
        self.world.note("coordinator", f"stalls for {for_s:.3f} s")
        self._keep_still(self.coordinator, for_s)

    def _stall_worker(self, worker: WorkerNode) -> None:
        self.world.mark("worker_stall")
        longest_s = self.dice.choice((0.8, 0.8, 20.0))
        self._keep_still(worker, self.dice.uniform(0.1, longest_s))

    def _keep_still(self, node: CoordinatorNode | WorkerNode, for_s: float) -> None:
        # A second stall within a longer one does not wake it.
        if node.stalled_until <= self.world.now:
            node.stalled_since = self.world.now
        node.stalled_until = max(node.stalled_until, self.world.now + for_s)

    def _fill_disk(self) -> None:
        self.world.mark("disk_full")
        self.disk.is_full = True

        def make_room() -> None:
            self.disk.is_full = False

        self.world.after(self.dice.uniform(1.0, 6.0), make_room)

    def _cut_off(self, node: Node) -> None:
        longest = {"mixed": [1.0, 5.0, 15.0, 25.0, 50.0], "long": [50.0], "devices": [2.0, 10.0]}
        for_s = self.dice.choice(longest[self.theme]) * self.dice.uniform(0.5, 1.0)
        self.network.cut_off(node, for_s, keeps_connections=self.dice.random() < 0.5)

    def _crash_worker(self, worker: WorkerNode) -> None:
        is_first = worker is self.workers[0]
        may_return = is_first or self.dice.random() >= self.faults.gone_share
        worker.crash(
            loses_power=self.dice.random() < self.faults.power_loss_share, may_return=may_return
        )

    def _break_device(self, worker: WorkerNode) -> None:
        if not worker.capacity.gpus:
            return
        worker.change_devices(self.dice.randrange(len(worker.capacity.gpus)))
        self.world.after(self.dice.uniform(1.0, 15.0), lambda: worker.change_devices(None))

    def _drain_some_worker(self) -> None:
        worker = self.dice.choice(self.workers)
        stop = worker is self.workers[0] or self.dice.random() < 0.5
        self.dice.choice(self.clients).drain(worker.name, stop=stop)

    # --- the calm ---

    def _calm_down(self) -> None:
        self.world.note("world", "calms down")
        self.faults.stop()
        self.disk.is_full = False
        for worker in self.workers:
            worker.change_devices(None)

    def _wait_for_the_end(self) -> None:
        end = STORM_S + CALM_S_MAX
        while self.world.now < end:
            self.world.run(min(end, self.world.now + 5.0))
            if self.world.now > STORM_S + 30.0:
                self._give_up_the_impossible()
                self._resume_all()
            # A Submit may still be on its way on a connection that its client gave up.
            if self.world.now >= STORM_S + 15.0 and not self._unfinished():
                return
        raise SimulationError(f"never came to its end: {'; '.join(self._unfinished())}")

    def _resume_all(self) -> None:
        # Whoever paused them may have crashed and forgotten; somebody else finds them.
        if not self.coordinator.is_up:
            return
        for job_id, job in self.coordinator.its_core.shop.ledger.jobs.items():
            is_frozen = job.pause is not None and job.pause.mode == "freeze"
            if is_frozen or isinstance(job.state, Paused):
                self.dice.choice(self.clients).resume(job_id)

    def _give_up_the_impossible(self) -> None:
        # They wait for a larger worker, as their users wanted.
        for client in self.clients:
            for job_id, wish in client.accepted.items():
                waits = wish.is_impossible or any(map(self._is_orphan, wish.spec.after or ()))
                if waits and job_id not in client.finished:
                    client.cancel(job_id)

    def _unfinished(self) -> list[str]:
        left = [
            f"{job_id} has no outcome"
            for job_id in self.disk.specs
            if job_id not in self.disk.outcomes and not self._is_orphan(job_id)
        ]
        for client in self.clients:
            if self.network.is_cut_off(client.name):
                left.append(f"{client.name} is cut off")
            left += [
                f"{client.name} waits for {job_id}"
                for job_id, told in client.told.items()
                if told.outcome is None
                and job_id not in client.refused
                # Who dropped its future is owed that it is kept, and nothing more.
                and not (told.is_left and told.is_accepted)
            ]
            left += [f"{client.name} waits for answer {r}" for r in client.unanswered]
        if not self.coordinator.is_up:
            left.append("the coordinator is down")
        else:
            left += self._missing_workers()
        for worker in self.workers:
            if not worker.is_gone and not worker.is_up:
                left.append(f"{worker.name} is down")
            elif worker.is_up and worker.its_core.bench.attempts:
                left.append(f"{worker.name} has {list(worker.its_core.bench.attempts)}")
            if self.network.is_cut_off(worker.name):
                left.append(f"{worker.name} is cut off")
            if worker.machine.processes:
                left.append(f"{worker.name} has {list(worker.machine.processes)}")
        return left

    def _missing_workers(self) -> list[str]:
        # One that has nothing to say may not have noticed yet that its connection is dead; its
        # Register would come when all should be quiet.
        here = {w.worker_id for w in self.coordinator.its_core.shop.fleet.by_session.values()}
        return [
            f"{worker.name} is not back"
            for worker in self.workers
            if worker.is_up and not worker.is_gone and worker.name not in here
        ]

    def _is_orphan(self, job_id: str) -> bool:
        # Impossible, accepted, and the process that might cancel it never heard so; or after such.
        spec = self.disk.specs.get(job_id)
        if spec is None or job_id in self.disk.outcomes:
            return False
        is_impossible = spec.resources == IMPOSSIBLE and not any(
            job_id in client.accepted for client in self.clients
        )
        return is_impossible or any(map(self._is_orphan, spec.after or ()))

    def _check_quiet(self) -> None:
        """Nothing is left but heartbeats, and no index keeps what ended."""
        core = self.coordinator.its_core
        strange: Counter[str] = Counter()

        def listen(_: Node, frame: bytes) -> None:
            if not any(name in frame for name in IDLE_MESSAGES):
                strange[frame.decode()[:200]] += 1

        self.world.run(self.world.now + 12.0)
        self.network.on_frame = listen
        self.world.run(self.world.now + QUIET_S)
        if strange:
            raise SimulationError(f"not quiet when all is done: {strange.most_common(3)}")
        if self.coordinator.its_core is not core:
            raise SimulationError("the coordinator restarts in calm weather")
        self.checks.compare(core)
        shop = core.shop
        for name in (
            "blocked",
            "dependents",
            "delayed",
            "pending",
            "children",
            "watchers",
            "pausing",
            "preemptible",
        ):
            kept = getattr(shop, name)
            if any(not self._is_orphan(job_id) for job_id in kept):
                raise SimulationError(f"{name} keeps {kept} when all is done")
        size = len(shop.deadlines._heap)
        if size > 2 * len(shop.deadlines._at) + 64:
            raise SimulationError(
                f"{size} entries in a heap of {len(shop.deadlines._at)} deadlines"
            )


def run(seed: int, *, check_every: int = 10, story: int = 40) -> Report:
    """Simulate one seed."""
    shop = Run(seed, check_every=check_every)
    error: str | None = None
    try:
        with _alarm():
            shop.go()
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is the finding
        error = f"{type(fault).__name__}: {fault}"
    world = shop.world
    return Report(
        seed,
        world.steps,
        world.now,
        world.fingerprint,
        error,
        world.marks,
        tuple(world.story(story)) if error is not None else (),
    )


@contextmanager
def _alarm() -> Iterator[None]:
    """Break out of a core that never returns from an event.

    By the processor time of the run: on a machine that is shared, a real second may give it none.
    """

    def stuck(_number: int, _frame: FrameType | None) -> None:
        raise SimulationError(f"a core did not return within {PROCESSOR_S_MAX} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stuck)
    signal.setitimer(signal.ITIMER_VIRTUAL, PROCESSOR_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
