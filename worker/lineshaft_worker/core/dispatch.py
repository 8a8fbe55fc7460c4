"""Which waiting attempt starts when, and on which lane."""

from lineshaft_protocol.jobs import Environment
from lineshaft_worker.core.attempts import Bench, Phase
from lineshaft_worker.core.io import (
    AttemptKey,
    Effect,
    RevokeAttempt,
    StartAttempt,
    StopAttempt,
)
from lineshaft_worker.core.settings import CoreSettings

LOOKS_MAX = 64
"""How many waiting attempts are tried for one free slot."""


class Dispatcher:
    """Gives lanes to waiting attempts, never more than the bench allows."""

    def __init__(self, settings: CoreSettings, bench: Bench, effects: list[Effect]) -> None:
        self._settings, self._bench, self._effects = settings, bench, effects

    def fill(self, now: float, *, acked_at: float | None) -> None:
        """Start what fits; hand brief work to runners ahead of time.

        Args:
            now: On the core's clock.
            acked_at: When the last heartbeat that arrived was sent: leases begin there.
        """
        bench = self._bench
        if not bench.waiting:
            return
        if bench.has_free_slot():
            for key in self._first_waiting():
                attempt = bench.attempts[key]
                if bench.fits(attempt) and not attempt.is_lease_over(now, acked_at):
                    del bench.waiting[key]
                    lane = bench.occupy(attempt)
                    bench.lanes[lane].since = now
                    bench.lanes[lane].expected_s = attempt.assign.expected_s or 0.0
                    attempt.phase = Phase.RUNNING
                    self._effects.append(StartAttempt(key, attempt.assign, lane))
                    if not bench.has_free_slot():
                        break
        if bench.waiting and not bench.has_free_slot():
            self._hand_over()

    def _first_waiting(self) -> list[AttemptKey]:
        keys: list[AttemptKey] = []
        for key in self._bench.waiting:
            keys.append(key)
            if len(keys) >= LOOKS_MAX:
                break
        return keys

    def _hand_over(self) -> None:
        bench, settings = self._bench, self._settings
        horizon_s = settings.lane_horizon_s
        while bench.waiting:
            attempt = bench.attempts[next(iter(bench.waiting))]
            if not attempt.is_brief(horizon_s):
                return
            lane = self._shortest_lane(attempt.assign.job.environment)
            if lane is None:
                return
            expected_s = attempt.assign.expected_s or 0.0
            bench.lanes[lane].keys[attempt.key] = None
            bench.lanes[lane].expected_s += expected_s
            attempt.lane, attempt.phase = lane, Phase.HANDED
            del bench.waiting[attempt.key]
            self._effects.append(StartAttempt(attempt.key, attempt.assign, lane))

    def _shortest_lane(self, environment: Environment | None) -> int | None:
        best: int | None = None
        best_s = self._settings.lane_horizon_s
        for index, lane in self._bench.lanes.items():
            if lane.is_revoking or lane.expected_s >= best_s:
                continue
            if len(lane.keys) >= self._settings.lane_max:
                continue
            first = self._bench.attempts[next(iter(lane.keys))]
            if first.assign.job.environment != environment:
                continue  # A runner of another environment must make room for its own.
            if first.phase is Phase.RUNNING and first.is_brief(self._settings.lane_horizon_s):
                best, best_s = index, lane.expected_s
        return best

    def next_stuck(self) -> float | None:
        """When the first lane will have kept others waiting for too long."""
        return min(
            (
                lane.since + self._settings.stuck_s
                for lane in self._bench.lanes.values()
                if len(lane.keys) > 1 and not lane.is_revoking
            ),
            default=None,
        )

    def revoke_stuck(self, now: float) -> None:
        """Take back what waits on a lane behind an attempt that is not brief after all."""
        for lane in self._bench.lanes.values():
            # Compared as next_stuck says it: a difference of floats might make us wake for ever.
            is_late = now >= lane.since + self._settings.stuck_s
            if is_late and len(lane.keys) > 1 and not lane.is_revoking:
                lane.is_revoking = True
                self._effects += [RevokeAttempt(key) for key in tuple(lane.keys)[1:]]

    def advance(self, following: AttemptKey | None, now: float) -> None:
        """The first of a lane is over: the next is being executed now."""
        if following is None:
            return
        attempt = self._bench.attempts[following]
        assert attempt.lane is not None, "what follows on a lane is on it"
        lane = self._bench.lanes[attempt.lane]
        lane.since, lane.is_revoking = now, False
        del lane.keys[following]
        self._bench.take_lane(attempt, attempt.lane)
        lane.keys.move_to_end(following, last=False)
        attempt.phase = Phase.RUNNING
        if attempt.is_stop_wanted:
            attempt.phase = Phase.STOPPING
            self._effects.append(StopAttempt(following))
