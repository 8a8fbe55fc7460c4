"""What goes wrong in a run, and how often: drawn per seed, so that runs differ in kind."""

from dataclasses import dataclass
from random import Random

ABSENT = 0.4
"""Share of the runs in which a kind of fault does not occur."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """Probabilities, and mean times between events in seconds (0: never)."""

    latency_s_max: float
    commit_s_max: float
    stall_per_frame: float
    reset_per_frame: float
    never_notices: float
    connect_fails: float
    partition_every_s: float
    coordinator_crash_every_s: float
    crash_around_commit: float
    disk_full_every_s: float
    coordinator_stall_every_s: float
    graceful_stop_every_s: float
    daemon_crash_every_s: float
    power_loss_share: float
    gone_share: float
    drain_every_s: float
    operator_drain_every_s: float
    device_fault_every_s: float
    client_crash_every_s: float
    worker_stall_every_s: float
    runner_death: float
    stop_ignored: float
    gpu_keeps_memory: float
    blob_fails: float
    drift: float
    timers_are_late: bool
    close_is_echoed: bool
    handles_in_batches: bool

    @classmethod
    def draw(cls, dice: Random) -> "Faults":
        """Draw what this run has to stand."""

        def sometimes(low: float, high: float) -> float:
            value = dice.uniform(low, high)
            return 0.0 if dice.random() < ABSENT else value

        return cls(
            latency_s_max=dice.choice([0.002, 0.02, 0.5, 2.0]),
            commit_s_max=dice.choice([0.0005, 0.005, 0.3]),
            stall_per_frame=sometimes(0.0, 0.03),
            reset_per_frame=sometimes(0.0, 0.05),
            never_notices=sometimes(0.0, 0.5),
            connect_fails=sometimes(0.0, 0.4),
            partition_every_s=sometimes(10.0, 60.0),
            coordinator_crash_every_s=sometimes(8.0, 60.0),
            crash_around_commit=sometimes(0.0, 0.03),
            disk_full_every_s=sometimes(20.0, 90.0),
            coordinator_stall_every_s=sometimes(15.0, 60.0),
            graceful_stop_every_s=sometimes(30.0, 120.0),
            daemon_crash_every_s=sometimes(10.0, 60.0),
            power_loss_share=dice.choice([0.0, 0.5, 1.0]),
            gone_share=sometimes(0.1, 0.6),
            drain_every_s=sometimes(30.0, 120.0),
            operator_drain_every_s=sometimes(30.0, 120.0),
            device_fault_every_s=sometimes(10.0, 40.0),
            client_crash_every_s=sometimes(15.0, 60.0),
            worker_stall_every_s=sometimes(5.0, 30.0),
            runner_death=sometimes(0.0, 0.15),
            stop_ignored=sometimes(0.0, 0.8),
            blob_fails=sometimes(0.0, 0.05),
            drift=sometimes(0.02, 0.1),
            timers_are_late=dice.random() < 0.5,
            close_is_echoed=dice.random() < 0.5,
            handles_in_batches=dice.random() < 0.6,
            # Last, so that older seeds tell their old stories.
            gpu_keeps_memory=sometimes(0.0, 0.5),
        )

    def stop(self) -> None:
        """Heal everything: from here on the run must make progress."""
        self.latency_s_max, self.commit_s_max = 0.01, 0.002
        self.stall_per_frame = self.reset_per_frame = self.never_notices = 0.0
        self.connect_fails = self.partition_every_s = 0.0
        self.coordinator_crash_every_s = self.crash_around_commit = self.disk_full_every_s = 0.0
        self.coordinator_stall_every_s = self.graceful_stop_every_s = 0.0
        self.daemon_crash_every_s = self.gone_share = 0.0
        self.drain_every_s = self.operator_drain_every_s = self.device_fault_every_s = 0.0
        self.gpu_keeps_memory = 0.0
        self.client_crash_every_s = self.worker_stall_every_s = self.runner_death = (
            self.blob_fails
        ) = 0.0
