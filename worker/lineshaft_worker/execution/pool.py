"""Everything that runs on this machine for one worker daemon."""

import asyncio
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from lineshaft_worker.execution import endings
from lineshaft_worker.execution.attempts import Attempt, Ending, PauseMode
from lineshaft_worker.execution.cgroups import Cgroups
from lineshaft_worker.execution.connections import Listener
from lineshaft_worker.execution.disposal import Disposal
from lineshaft_worker.execution.feed import Feed, waiting_bytes
from lineshaft_worker.execution.found import Adopted, describe, ended_in, read_description
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.lane import Lane
from lineshaft_worker.execution.memory import MemoryWatch
from lineshaft_worker.execution.orders import AttemptKey, AttemptOrder, Shape
from lineshaft_worker.execution.pausing import carry_out
from lineshaft_worker.execution.process import (
    Launch,
    RunnerProcess,
    is_of_another_boot,
    own_interpreter,
)
from lineshaft_worker.execution.reports import (
    AttemptReturned,
    Failure,
    Outcome,
    Report,
    Succeeded,
)
from lineshaft_worker.execution.safekeeping import Safekeeping, Sync
from lineshaft_worker.execution.state_folder import StateFolder
from lineshaft_worker.execution.tail import OUTPUT_BYTES_MAX
from lineshaft_worker.runner.files import CURRENT, attempt_file

TICK_S = 0.025


class Execution:
    """Starts, watches and ends runners, and tells the core what becomes of attempts.

    Methods that are not coroutines return at once; what they bring about is reported. `report` is
    called in the event loop's thread and may call back.
    """

    def __init__(
        self,
        state_folder: Path,
        *,
        report: Callable[[Report], None],
        interpreter_of: Callable[[str], Launch] = own_interpreter,
        cgroups: Cgroups | None = None,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        sync: Sync = os.fsync,
    ) -> None:
        """Prepare; nothing happens before `open`.

        Args:
            state_folder: Where runners live; of this daemon alone, kept between its lives.
            report: Called with every report.
            interpreter_of: Says how runners of an environment are started. May raise OSError.
            cgroups: Where each runner gets a group of its own; None: nothing was delegated.
            output_bytes_max: Output of an attempt beyond this is thrown away, with a notice.
            sync: Brings what a descriptor stands for to the disk.
        """
        self._folder = state_folder.absolute()
        self._report_to = report
        self._interpreter_of = interpreter_of
        self._cgroups = cgroups
        self._safe = Safekeeping(self.settled, sync)
        self.feed = Feed(report, self._drained, self._safe.add, output_bytes_max=output_bytes_max)
        self._lanes: dict[int, Lane] = {}
        self._hosts: dict[str, Host] = {}
        self._gone: set[str] = set()
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._disposal = Disposal()
        self._tickets = itertools.count((secrets.randbits(30) << 32) + 1)
        self._listener: Listener | None = None
        self._state: StateFolder | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._memory = MemoryWatch(self._over_memory)
        self._all_gone = asyncio.Event()

    async def open(self) -> list[Adopted]:
        """Begin; take over what runs already, and report what ended meanwhile.

        Raises:
            StateFolderInUseError: Another daemon owns the folder.
            OSError: The folder cannot be used.
        """
        self._state = StateFolder.open(self._folder)
        # Before anybody is looked for: who is poked shall find somebody to call.
        self._listener = await Listener.open(self._folder, self)
        folders = sorted(self._state.runners.iterdir())
        adopted = [found for folder in folders if (found := self._adopt(folder)) is not None]
        self._arm()
        return adopted

    def unsettled(self) -> list[AttemptKey]:
        """Name what of an earlier daemon is reported or will be; to be asked after `open`."""
        ended = [key for host in self._hosts.values() for key in ended_in(host.folder)]
        return list(dict.fromkeys([*self._attempts, *ended]))

    def start(self, order: AttemptOrder, lane: int) -> None:
        """Execute an attempt on a lane, after those that were started there before."""
        assert order.key not in self._attempts, "an attempt is started once, and settled before"
        attempt = Attempt(
            key=order.key,
            kind=order.kind,
            lane=lane,
            order=order,
            run_s=order.run_s,
            memory_bytes=order.memory_bytes,
        )
        self._attempts[order.key] = attempt
        self._lane(lane).start(attempt)
        self._arm()

    def prepare(self, lane: int, shape: Shape | None = None) -> None:
        """Have a runner ready on an idle lane, so that the next attempt begins at once."""
        self._lane(lane).prepare(shape or Shape())
        self._arm()

    def revoke(self, key: AttemptKey) -> None:
        """Take an attempt back if it has not begun: then AttemptReturned follows, else nothing."""
        attempt = self._attempts.get(key)
        if attempt is not None and not attempt.is_over:
            self._lane(attempt.lane).revoke(attempt)

    def stop(self, key: AttemptKey, grace_s: float) -> None:
        """End an attempt: SIGTERM, and after the grace SIGKILL, to all its processes.

        AttemptEnded follows when none is left. Its outcome is Stopped, or a result that was just
        ready. Calling again can only shorten the grace.
        """
        attempt = self._attempts.get(key)
        if attempt is not None and not attempt.is_over:
            self._lane(attempt.lane).stop(attempt, grace_s)
            self._arm()

    def devices(self) -> frozenset[str]:
        """Name the GPUs that a runner of ours may see."""
        return frozenset(uuid for host in self._hosts.values() for uuid in host.shape.devices)

    def set_pause(self, key: AttemptKey, mode: PauseMode) -> None:
        """Ask an attempt to save and end (Paused follows), to stand still, or to go on."""
        attempt = self._attempts.get(key)
        if attempt is not None and not attempt.is_over:
            attempt.pause, attempt.is_answer_due = mode, mode == "freeze"
            self._arm()

    def kept_folder(self, key: AttemptKey) -> Path | None:
        """Return where files lie that an attempt wants kept; None if it never began."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.folder is None:
            return None
        attempt.has_files = True
        return Path(attempt_file(str(attempt.folder), attempt.ticket, "kept"))

    def answer_child(self, key: AttemptKey, request: int, answer: bytes | Path | Failure) -> None:
        """Tell a waiting plan how the part ended that it wanted run elsewhere.

        Args:
            key: The plan's attempt.
            request: Number of the ChildRequested.
            answer: The packed result, the file that holds it, or why there is none.
        """
        attempt = self._attempts.get(key)
        if attempt is None or attempt.host is None or attempt.is_over:
            return
        attempt.host.answer(attempt, request, answer)

    def events_kept(self, key: AttemptKey, seq: int) -> None:
        """Take note that the coordinator has the attempt's events up to a number."""
        if (attempt := self._attempts.get(key)) is not None and attempt.tail is not None:
            attempt.tail.acknowledge(seq)

    def spool_bytes(self) -> int:
        """Sum up what attempts told and printed that the coordinator has not for sure."""
        return sum(map(waiting_bytes, self._attempts.values()))

    def settled(self, key: AttemptKey) -> None:
        """Forget an attempt whose end the coordinator has: delete its files."""
        attempt = self._attempts.get(key)
        if attempt is None or not attempt.is_over or not self._safe.settle(key):
            return
        del self._attempts[key]
        host = attempt.host
        if host is None or attempt.folder is None or not attempt.ticket:
            return
        if host.process.runner_id in self._gone:
            self._clean_up(host)
            return
        if attempt.done is not None:
            host.acknowledge(attempt.ticket)
        self._disposal.files_of(attempt)

    async def close(self, *, keep_running: bool) -> None:
        """End. What runs goes on for the next daemon, or is stopped and reported.

        Args:
            keep_running: Attempts go on without a daemon; idle runners end. Otherwise every
                attempt is stopped, and all ends are reported before this returns.
        """
        self.feed.hurry()
        if not keep_running:
            for attempt in list(self._attempts.values()):
                if not attempt.is_over:
                    self._lane(attempt.lane).stop(attempt, 0.0)
        for lane in self._lanes.values():
            lane.clear()
        for host in list(self._hosts.values()):
            if not (keep_running and host.sent):
                host.stop(0.0)
        kept = {name for name, host in self._hosts.items() if keep_running and host.sent}
        while set(self._hosts) - kept:
            self._all_gone.clear()
            await self._all_gone.wait()
        if self._listener is not None:
            self._listener.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for host in list(self._hosts.values()):
            host.flush()
            host.process.forget()
            host.hang_up()
        await self.feed.drained()
        for host in list(self._hosts.values()):
            host.close()
        await self._safe.drained()
        await self._disposal.drained()
        if self._state is not None:
            self._state.close()
            self._state = None

    # What connections, lanes and runners ask (Reception, LaneOwner)

    def host_of(self, runner_id: str) -> Host | None:
        """Return the runner of that name, if there is one."""
        return self._hosts.get(runner_id)

    def report(self, report: Report) -> None:
        """Tell the core."""
        self._report_to(report)

    def next_ticket(self) -> int:
        """Return a number that no attempt has had, here or in an earlier daemon's time."""
        return next(self._tickets)

    def may_spawn(self, lane: int, shape: Shape) -> bool:
        """Say whether no idle runner of another lane keeps memory on its GPUs; end such ones."""
        others = [x.host for n, x in self._lanes.items() if n != lane and x.host is not None]
        wanted = set(shape.devices)
        rivals = [host for host in others if not host.sent and wanted & set(host.shape.devices)]
        for host in rivals:
            host.stop(0.0)
        return not rivals

    def spawn(self, lane: int, shape: Shape) -> Host:
        """Start a runner in a folder of its own.

        Raises:
            OSError: No folder or process could be made.
        """
        runner_id = secrets.token_hex(8)
        folder = self._folder / "runners" / runner_id
        folder.mkdir(mode=0o700)
        try:
            describe(folder, lane, shape)
            launch = self._interpreter_of(shape.environment)
            group = None if self._cgroups is None else self._cgroups.make(runner_id)
            process = RunnerProcess.spawn(folder, launch, shape, cgroup=group)
        except OSError:
            if self._cgroups is not None:
                self._cgroups.remove(runner_id)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        host = self._hosts[runner_id] = Host(process, shape, self._lane(lane), self._cgroups)
        return host

    def give_back(self, attempt: Attempt) -> None:
        """Report that an attempt never began, and forget it."""
        attempt.is_over = True
        self._attempts.pop(attempt.key, None)
        self._disposal.files_of(attempt)
        self._report_to(AttemptReturned(attempt.key))

    def finish(self, attempt: Attempt, outcome: Outcome, ending: Ending) -> None:
        """Report an end, after the attempt's last events."""
        if attempt.is_over or self._attempts.setdefault(attempt.key, attempt) is not attempt:
            return
        attempt.is_over = True
        if attempt.done is None and attempt.ticket:
            attempt.done = endings.done_of_outcome(attempt, outcome, ending)
        if isinstance(outcome, Succeeded) and not isinstance(outcome.result, bytes):
            attempt.has_files = True
        ended = endings.ended(attempt, outcome, ending)
        self.feed.end(attempt, ended, ending.ends)

    def retire(self, host: Host) -> None:
        """Take a runner that is gone: its folder goes when nothing in it is needed."""
        self._hosts.pop(host.process.runner_id, None)
        if self._cgroups is not None:
            self._cgroups.remove(host.process.runner_id)
        self._gone.add(host.process.runner_id)
        for attempt in self._attempts.values():
            if attempt.host is host and attempt.is_over:
                self._safe.leave_word(attempt)
        self._clean_up(host)
        self._all_gone.set()
        for lane in self._lanes.values():  # One may have waited for the GPU that this one kept.
            lane.pump()

    # Our own

    def _lane(self, number: int) -> Lane:
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = Lane(number, self)
        return lane

    def _adopt(self, folder: Path) -> Adopted | None:
        if (description := read_description(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        number, shape = description
        process = RunnerProcess.adopt(folder)
        if process is None and is_of_another_boot(folder):
            # The machine went down with all on it; what had ended before is still reported.
            (folder / CURRENT).unlink(missing_ok=True)
        is_alive = process is not None
        lane = self._lane(number) if is_alive and number not in self._lanes else Lane(number, self)
        host = Host(
            process or RunnerProcess.ended(folder), shape, lane, self._cgroups, is_adopted=True
        )
        self._hosts[host.process.runner_id] = host
        attempt = lane.adopt(host)
        if attempt is None:
            return None
        self._attempts[attempt.key] = attempt
        if not is_alive:
            return None
        host.process.poke()
        return Adopted(attempt.key, number, attempt.started_wall)

    def _arm(self) -> None:
        if (
            self._tick is None
            and self._state is not None
            and any(x.is_busy for x in self._lanes.values())
        ):
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        now = time.monotonic()
        for lane in list(self._lanes.values()):
            lane.tick(now)
        told = [
            attempt
            for host in self._hosts.values()
            for attempt in itertools.islice(host.sent.values(), 1)
            if attempt.is_told and not attempt.is_over
        ]
        for attempt in told:
            self.feed.poll(attempt)
            assert attempt.host is not None, "who was told runs in a host"
            if (froze := carry_out(attempt, attempt.host, now)) is not None:
                self._report_to(froze)
        if self._cgroups is None or not self._cgroups.limits_memory:
            self._memory.look(told, now)
        self._arm()

    def _drained(self, host: Host) -> None:
        if host.process.runner_id in self._gone:
            self._clean_up(host)

    def _over_memory(self, attempt: Attempt) -> None:
        if not attempt.is_over and attempt.host is not None and attempt.done is None:
            self._lane(attempt.lane).stop(attempt, 0.0, "memory")

    def _clean_up(self, host: Host) -> None:
        """Delete what a runner that is gone has left, as far as nobody needs it."""
        if self.feed.is_draining(host):
            return
        host.close()
        if any(attempt.host is host for attempt in self._attempts.values()):
            for work in host.folder.glob("*.work"):
                self._disposal.folder(work)
            return
        self._gone.discard(host.process.runner_id)
        self._disposal.folder(host.folder)
