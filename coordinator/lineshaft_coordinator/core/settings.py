"""The numbers that decide, in one place."""

from lineshaft_protocol.jobs import JobKind, JobSpec
from lineshaft_protocol.wire import Wire

LEASE_SHARE = 0.8
"""Less than 0.9 / 1.1: what two clocks that are wrong by 10 % can make of the same time."""
LEASED_FROM_S = 2.0
"""The shortest ``lost_after`` with a lease of its own: a worker speaks twice a second at most."""


class CoreSettings(Wire):
    """Times in seconds."""

    heartbeat_s: float = 5.0
    """How often a worker speaks when it has nothing else to say."""
    suspect_s: float = 15.0
    """Silence after which a worker gets no new work."""
    silence_s: float = 20.0
    """Silence after which a connection counts as dead."""
    lost_after_s: float = 600.0
    """How long a pipeline job waits for its vanished worker before it starts elsewhere."""
    lost_after_brief_s: float = 0.5
    """The same for functions and plans, which are cheaper to repeat than to wait for."""
    lease_s: float = 390.0
    """How long a worker on its own goes on with an attempt that was given without a lease."""
    lease_brief_s: float = 120.0
    """The same for functions and plans that say nothing of lost_after. Much longer than theirs:
    they may be executed twice then, but a restart of ours does not end what runs."""
    ending_s: float = 90.0
    """The most that ending an attempt takes a worker: a third to ask, the rest to kill and see."""
    recovery_s: float = 30.0
    """After our own start nobody is judged lost before this has passed."""
    first_workers_s: float = 3.0
    """After our very first start no job is refused because no worker could run it: the worker
    that can may be about to register."""
    lost_max: int = 3
    """A job that lost this many workers is taken to be their cause."""
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0
    """Waiting before a repeat of failed code: doubled each time between these two."""
    reserve_after_s: float = 15.0
    """A job that has waited this long for a worker to become empty enough gets one set aside."""
    gang_hold_s: float = 300.0
    """How long workers stay set aside for a job that needs several at once; then others may have
    them for as long, before they are set aside again."""
    horizon_s: float = 0.05
    """Brief work given to a worker ahead of time, so that it never waits for us."""
    backlog_max: int = 512
    """Most jobs given ahead of time, for each slot."""
    recall_after_s: float = 0.05
    """A backlog older than this is offered to idle workers."""
    preparing_max: int = 4
    """How many jobs a worker prepares at a time that have no place there yet, each of them with
    another environment."""
    pause_grace_s: float = 120.0
    """How long a job that is asked to pause may take to save and end; then it goes on."""
    checkpoints_kept: int = 3
    """How many of a job's last checkpoints are kept, unless the job says otherwise."""
    files_max: int = 10_000
    """Most files kept of one job; what comes after is not."""
    preempt_after_s: float = 5.0
    """How long a job waits for room before one of a lower priority is asked to make some."""
    preempt_spare_s: float = 300.0
    """How long a job that did not pause for another is not asked again."""
    live_jobs_max: int = 1_000_000
    client_silence_s: float = 60.0
    """Silence after which a client's connection counts as dead."""

    def lost_after_s_of(self, spec: JobSpec) -> float:
        """How long this job waits for a worker that vanished."""
        if spec.timeouts is not None and spec.timeouts.lost_after_s is not None:
            return spec.timeouts.lost_after_s
        return self.lost_after_s if is_long(spec.kind) else self.lost_after_brief_s

    def lease_of(self, spec: JobSpec) -> tuple[float, float]:
        """How long a worker may go on alone with this job, and how long ending it may take then.

        Both are over before we give the job away, with clocks of either side wrong by 10 %:
        (lease + ending) / 0.9 < lost_after / 1.1. Brief work, and a job that is given away sooner
        than a worker can ask twice, has no such lease: of two attempts the later one counts.
        """
        is_own = spec.timeouts is not None and spec.timeouts.lost_after_s is not None
        lost_after_s = self.lost_after_s_of(spec)
        is_brief = not is_own and not is_long(spec.kind)
        if is_brief or lost_after_s < LEASED_FROM_S:
            return self.lease_brief_s, self.ending_s / 3
        ending_s = min(self.ending_s, lost_after_s / 4)
        return LEASE_SHARE * lost_after_s - ending_s, ending_s / 3


class LeaseTimes:
    """What `CoreSettings.lease_of` says, without asking again for each plain job."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self._by_kind: dict[JobKind, tuple[float, float]] = {}

    def of(self, spec: JobSpec, *, is_plain: bool) -> tuple[float, float]:
        """The lease of this job; that of a plain one follows from its kind alone."""
        if not is_plain:
            return self._settings.lease_of(spec)
        if (times := self._by_kind.get(spec.kind)) is None:
            times = self._by_kind[spec.kind] = self._settings.lease_of(spec)
        return times


def is_long(kind: JobKind) -> bool:
    """Whether work of this kind is worth waiting for."""
    return kind in ("pipeline", "stream")
