"""The whole vocabulary between the coordinator's core and its shell."""

from typing import Literal

from lineshaft_coordinator.core.records import Record
from lineshaft_protocol.client_messages import FromClient, ToClient
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import ClientId, JobId, Session
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.values import value
from lineshaft_protocol.worker_messages import FromWorker, ToWorker

PROTOCOL_FAULT = 1002
POLICY = 1008
GOING_AWAY = 1001


@value()
class Connected:
    """A peer that may speak for this role opened a session."""

    session: Session
    role: Literal["client", "worker"]
    owner: str | None = None
    """Id of the token that opened it; None for what needs none."""


@value()
class Disconnected:
    """The session is gone."""

    session: Session


@value()
class Received:
    """A message arrived, decoded by the role of its session."""

    session: Session
    message: FromClient | FromWorker


@value()
class Found:
    """The answer to a Lookup; ``outcome`` is None for a job nobody knows."""

    job_id: JobId
    spec: JobSpec | None
    outcome: Outcome | None
    problem: str | None = None
    """Why the store's answer cannot be read: whether the job is known, nobody can say."""


@value()
class Tick:
    """A deadline the core asked for has passed."""


@value()
class StopPlacing:
    """The daemon is about to stop: start nothing more."""


@value()
class CancelAsked:
    """Somebody without a session of its own wants a job ended."""

    job_id: JobId
    reason: str


@value()
class PauseAsked:
    """Likewise: paused, or frozen."""

    job_id: JobId
    reason: str
    freeze: bool = False


@value()
class ResumeAsked:
    """Likewise: going on."""

    job_id: JobId
    checkpoint: str | None = None
    """File id of the checkpoint from which, if not the last one."""


Event = (
    Connected
    | Disconnected
    | Received
    | Found
    | Tick
    | StopPlacing
    | CancelAsked
    | PauseAsked
    | ResumeAsked
)


@value()
class Append:
    """Must be durable before any Send of its batch leaves the process."""

    record: Record


@value()
class AppendEvents:
    """Likewise; an event that is there already is left alone."""

    events: tuple[JobEvent, ...]
    client_id: ClientId


@value()
class Send:
    """Give this to the peer, in order; dropped if the session is gone."""

    session: Session
    message: ToClient | ToWorker


@value()
class Close:
    """End the session."""

    session: Session
    code: int
    reason: str


@value()
class Lookup:
    """Find a job that left memory; answered with Found."""

    job_id: JobId


@value()
class Replay:
    """Give the session the job's kept events after (attempt, seq), before any later Send."""

    session: Session
    job_id: JobId
    after_attempt: int
    after_seq: int


Effect = Append | AppendEvents | Send | Close | Lookup | Replay
