"""A lane: attempts one at a time, in order, in one runner at a time.

Theory. An attempt waits in the lane's queue, is given to the runner (perhaps while another one is
executed there, so that it can begin at once), has its turn, and ends. The lane has at most one
runner, and makes the next only when no process of the one before is left: a GPU or a slot is free
when its processes are gone, not when we ask. Who ends what:

- the runner says Done: the attempt is over, unless processes must go first (a pipeline job's; those
  that a function left behind; those of an attempt that is being stopped), then it waits for them;
- the runner is gone: the attempt whose turn it was gets an outcome from the exit record, those
  that were to follow in the same runner are returned, and the queue goes on in a new runner.
"""

import contextlib
import json
import time
from collections import deque
from pathlib import Path

from lineshaft_worker.execution import endings
from lineshaft_worker.execution.attempts import Attempt, Ending, Verdict
from lineshaft_worker.execution.found import adopted_attempt, attempt_of_done, read_done
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.lane_owner import LaneOwner
from lineshaft_worker.execution.orders import Shape
from lineshaft_worker.execution.pausing import adopt, is_still
from lineshaft_worker.execution.process import ExitRecord, read_exit
from lineshaft_worker.execution.reports import (
    AttemptBegan,
    ChildRequested,
    Failed,
    Failure,
    Outcome,
    Stopped,
)
from lineshaft_worker.execution.warmth import Warmth, worth_repeating
from lineshaft_worker.runner.files import attempt_file, read_current
from lineshaft_worker.runner.frames import Done, Hello, Revoked, Spawn
from lineshaft_worker.runner.records import decode_current

TOLD_S = 0.02
"""Attempts that are over sooner are not announced."""
START_S_MAX = 60.0
TIMEOUT_GRACE_S = 5.0
LEAVE_S_MAX = 60.0
"""What a pipeline job may still do at exit once it has its result."""
IDLE_END_S_MAX = 10.0
"""An idle runner without a daemon ends by itself within this time."""
UNKILLABLE_S = 60.0
"""After SIGKILL; then we say that processes are left."""
STREAM_BYTES_MAX = 64 * 2**20
"""A runner whose output has grown to this is replaced when it is idle."""


class Lane:
    """See the module."""

    def __init__(self, number: int, owner: LaneOwner) -> None:
        self.number = number
        self.host: Host | None = None
        self._queue: deque[Attempt] = deque()
        self._wanted: Shape | None = None
        """What to start when the runner that is in the way is gone."""
        self._owner = owner
        self._warmth = Warmth()

    @property
    def is_busy(self) -> bool:
        """Whether time matters to this lane."""
        host = self.host
        return bool(self._queue) or (
            host is not None and (bool(host.sent) or not host.is_ready or host.is_closing)
        )

    def start(self, attempt: Attempt) -> None:
        """Execute an attempt after those that were started before."""
        self._queue.append(attempt)
        self.pump()

    def prepare(self, shape: Shape) -> None:
        """Start a runner for what may come, if the lane is idle."""
        if self.is_busy or (self.host is not None and self.host.shape == shape):
            return
        if self.host is not None:
            self._wanted = shape
            self.host.stop(0.0)
            return
        # Who starts an attempt is told what is wrong.
        with contextlib.suppress(OSError):
            self.host = self._owner.spawn(self.number, shape)
            self._warmth.rest(self.host)

    def revoke(self, attempt: Attempt) -> None:
        """Give an attempt back if it has not begun."""
        if attempt in self._queue:
            self._queue.remove(attempt)
            self._owner.give_back(attempt)
        elif attempt.host is not None and attempt.done is None:
            attempt.host.revoke(attempt.ticket)

    def stop(self, attempt: Attempt, grace_s: float, verdict: Verdict = "stop") -> None:
        """End an attempt, whatever it takes; its end is reported when nothing of it is left."""
        attempt.verdict = attempt.verdict or verdict
        host = attempt.host
        if host is None:
            self._queue.remove(attempt)
            self._owner.finish(attempt, Stopped(), Ending())
        elif self._first(host) is attempt or host.is_closing:
            host.stop(grace_s)
        else:
            # Its turn may come before the runner hears this; on_done of the one before sees to it.
            host.revoke(attempt.ticket)

    def tick(self, now: float) -> None:
        """Do what is due: announce, enforce limits, give up on what cannot be killed."""
        host = self.host
        if host is None:
            return
        patience_s = IDLE_END_S_MAX if host.is_closing else START_S_MAX
        is_mute = not host.is_ready and host.stop_by is None and now - host.born > patience_s
        if is_mute and not (host.is_freeze_asked and is_still(host)):
            host.stop(0.0)
        if host.stop_by is not None and now > host.stop_by + UNKILLABLE_S:
            self._give_up(host)
        first = self._first(host)
        if first is None or first.began is None or first.is_over or first.froze_at is not None:
            return
        if not first.is_told and now - first.began >= TOLD_S:
            first.is_told = True
            pid = host.process.runner_pid()
            self._owner.report(AttemptBegan(first.key, pid, host.process.runner_id))
        if first.done is not None:
            if now - first.done_at > LEAVE_S_MAX and not host.is_closing:
                host.stop(TIMEOUT_GRACE_S)
            return
        if first.run_s is not None and now - first.began > first.run_s and not host.is_closing:
            self.stop(first, TIMEOUT_GRACE_S, "timeout")

    # What runners say (HostOwner)

    def on_ready(self, host: Host, hello: Hello) -> None:
        """The runner said hello, for the first time or again."""
        if host.is_closing or (hello.ticket and hello.ticket not in host.sent):
            # An idle one that was found is not kept; one that executes what nobody here knows
            # comes too late for a place among the adopted.
            host.stop(0.0)
        if host.is_ready:
            for attempt in list(host.sent.values())[1:]:
                self._return(host, attempt)
            if not hello.ticket and (first := self._first(host)) is not None and not first.done:
                # It has ended, and its end follows; or its order was lost with the connection.
                # The answer to this comes after all that the runner says again, and tells.
                host.doubted = first.ticket
                host.revoke(first.ticket)

    def on_done(self, host: Host, done: Done) -> None:
        """The code of an attempt has ended."""
        if (attempt := host.sent.get(done.ticket)) is None:
            if host.is_adopted:  # A result that an earlier daemon did not settle.
                found = attempt_of_done(self.number, host, done)
                self._finish_done(host, found, done, done.ends)
            return
        if attempt.is_over:
            return
        attempt.done = done
        attempt.begins, attempt.started_wall = done.begins, done.started_wall
        attempt.done_at = time.monotonic()
        if done.kind == "pipeline":
            return  # Its process ends by itself; the lane goes on when that is done.
        if done.has_children or host.is_closing:
            if not host.is_closing:
                host.stop(0.0)
            return
        del host.sent[done.ticket]
        host.begin_first()
        self._finish_done(host, attempt, done, done.ends)
        first = self._first(host)
        is_full = first is None and max(done.ends) > STREAM_BYTES_MAX
        if is_full or (first is not None and first.verdict is not None):
            host.stop(0.0)
        elif self._queue:
            self.pump()
        elif first is None:
            self._warmth.rest(host)

    def on_revoked(self, host: Host, revoked: Revoked) -> None:
        """The runner says whether it left an attempt out."""
        is_lost = revoked.ticket == host.doubted
        if is_lost:
            host.doubted = 0
        attempt = host.sent.get(revoked.ticket)
        if attempt is None or attempt.done is not None or not (revoked.is_revoked or is_lost):
            return
        was_first = self._first(host) is attempt
        self._return(host, attempt)
        if was_first and not host.is_closing:
            # Those that wait for an idle runner, or for another, have nobody else to tell them.
            host.begin_first()
            self.pump()

    def on_spawn(self, host: Host, spawn: Spawn) -> None:
        """A plan wants a part run elsewhere."""
        if (attempt := host.sent.get(spawn.ticket)) is None:
            return
        payload: bytes | Path | None = spawn.payload
        if payload is None:
            attempt.has_files = True
            payload = Path(attempt_file(str(host.folder), spawn.ticket, f"child-{spawn.request}"))
        target = json.loads(spawn.target)
        self._owner.report(ChildRequested(attempt.key, spawn.request, target, payload))

    def on_gone(self, host: Host) -> None:
        """No process of the runner is left."""
        record = read_exit(host.folder)
        is_gone = record is not None or host.kill_rest()
        ends = host.streams.sizes()
        self._recover(host)
        victim = self._victim(host)
        sent = list(host.sent.values())
        host.sent.clear()
        if self.host is host:
            self.host = None
        for attempt in sent:
            if attempt.is_over:
                continue
            if attempt.done is None and attempt is not victim:
                self._return(host, attempt)
            elif attempt.done is not None:
                pid = host.process.runner_pid()
                self._finish_done(host, attempt, attempt.done, ends, record, pid)
            else:
                self._finish_exit(host, attempt, ends, record, is_gone=is_gone)
        self._owner.retire(host)
        self.pump()
        wanted, self._wanted = self._wanted or worth_repeating(host, victim, sent), None
        if wanted is not None and not self._queue:
            self.prepare(wanted)

    def clear(self) -> None:
        """Give back what waits; nothing more is started."""
        self._wanted = None
        self._warmth.clear()
        while self._queue:
            self._owner.give_back(self._queue.popleft())

    def adopt(self, host: Host) -> Attempt | None:
        """Take a runner that an earlier daemon started; returns the attempt it is executing."""
        self.host = host
        record = read_current(str(host.folder))
        if record is None:
            # Idle without a daemon: it saves what it has and ends by itself; `tick` sees to that.
            host.is_closing = True
            return None
        attempt = adopted_attempt(self.number, host, record)
        adopt(attempt, host)
        host.sent[attempt.ticket] = attempt
        return attempt

    def pump(self) -> None:
        """Give the runner what waits, or start one, as far as that may be now."""
        while self._queue:
            attempt = self._queue[0]
            host = self._host_for(attempt)
            if host is None:
                return
            self._queue.popleft()
            attempt.host, attempt.folder = host, host.folder
            attempt.ticket = self._owner.next_ticket()
            try:
                host.execute(attempt)
            except OSError as error:
                self._fail_start(attempt, f"its payload could not be written: {error}")

    def _host_for(self, attempt: Attempt) -> Host | None:
        assert attempt.order is not None, "what waits was ordered from this daemon"
        shape = attempt.order.shape()
        host = self.host
        if host is None:
            if not self._owner.may_spawn(self.number, shape):
                return None
            try:
                self.host = self._owner.spawn(self.number, shape)
            except OSError as error:
                self._queue.popleft()
                self._fail_start(attempt, f"no process could be made: {error}")
                self.pump()
                return None
            return self.host
        if host.is_closing:
            return None
        first = self._first(host)
        is_pipeline = attempt.kind == "pipeline"
        serves_pipeline = first is not None and first.kind == "pipeline"
        if host.shape == shape and not serves_pipeline and (host.is_virgin or not is_pipeline):
            return host
        if first is None:
            host.stop(0.0)
        return None

    def _fail_start(self, attempt: Attempt, reason: str) -> None:
        outcome = Failed(Failure(cause="start", message=reason))
        self._owner.finish(attempt, outcome, Ending())

    def _first(self, host: Host) -> Attempt | None:
        return next(iter(host.sent.values()), None)

    def _victim(self, host: Host) -> Attempt | None:
        """Return the attempt that was being executed when the runner ended."""
        first = self._first(host)
        if first is None or first.done is not None:
            return None
        record = read_current(str(host.folder))
        if record is None:
            # It ended before the attempt's turn: if it never served at all, it cannot start.
            return first if first.verdict is not None or not host.is_ready else None
        current = decode_current(record)
        if current.ticket == first.ticket:
            first.begins, first.started_wall = current.begins, current.started_wall
            return first
        return first if first.verdict is not None else None

    def _recover(self, host: Host) -> None:
        """Take the ends that a runner saved when it had no daemon to tell them to."""
        for path in sorted(host.folder.glob("a*.ended")):
            done = read_done(path)
            if done is None:
                continue
            attempt = host.sent.get(done.ticket)
            if attempt is None:
                found = attempt_of_done(self.number, host, done)
                self._finish_done(host, found, done, done.ends)
            elif attempt.done is None:
                attempt.done, attempt.begins = done, done.begins

    def _return(self, host: Host, attempt: Attempt) -> None:
        host.sent.pop(attempt.ticket, None)
        attempt.is_left_out = True
        if attempt.verdict == "stop":
            self._owner.finish(attempt, Stopped(), Ending())
        else:
            self._owner.give_back(attempt)

    def _finish_done(
        self,
        host: Host,
        attempt: Attempt,
        done: Done,
        ends: list[int],
        record: ExitRecord | None = None,
        gone_pid: int | None = None,
    ) -> None:
        peaks = [done.peak_bytes or 0, record.peak_bytes if record is not None else 0]
        lines = host.streams.last_lines(done.begins, ends) if done.status == "failed" else ()
        outcome = endings.outcome_of_done(attempt, done, lines)
        ending = Ending(ends, done.run_s, max(peaks) or None, gone_pid=gone_pid)
        self._owner.finish(attempt, outcome, ending)

    def _finish_exit(
        self,
        host: Host,
        attempt: Attempt,
        ends: list[int],
        record: ExitRecord | None,
        *,
        is_gone: bool,
    ) -> None:
        attempt.begins = attempt.begins or list(host.ends)
        lines = host.streams.last_lines(attempt.begins, ends)
        if not host.is_ready and attempt.verdict is None and attempt.order is not None:
            outcome: Outcome = endings.failed_start(record, "its runner did not start", lines)
        else:
            outcome = endings.outcome_of_exit(attempt, record, lines)
        run_s = 0.0 if attempt.began is None else time.monotonic() - attempt.began
        peak_bytes = None if record is None else record.peak_bytes
        ending = Ending(ends, run_s, peak_bytes, is_gone, host.process.runner_pid())
        self._owner.finish(attempt, outcome, ending)

    def _give_up(self, host: Host) -> None:
        """Say that an attempt is over though a process of it cannot be killed."""
        ends = host.streams.sizes()
        first = self._first(host)
        if first is not None and not first.is_over:
            self._finish_exit(host, first, ends, None, is_gone=False)
