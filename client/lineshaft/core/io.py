"""The whole vocabulary between the client's core and its shell."""

from pydantic import JsonValue

from lineshaft_protocol.client_messages import FromClient, StateChanged, ToClient
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.values import value


@value()
class Connected:
    """The connection asked for is open."""

    session: Session


@value()
class Disconnected:
    """The session is gone, or could not be opened (``session`` is then None)."""

    session: Session | None
    reason: str = ""


@value()
class Received:
    """The coordinator said something."""

    session: Session
    message: ToClient


@value()
class Tick:
    """A deadline the core asked for has passed."""


@value()
class SubmitAsked:
    """The user wants this job kept and run."""

    spec: JobSpec
    has_new_id: bool = True
    """Whether its id was made up for it; False when a process before us may have used it."""


@value()
class WatchAsked:
    """The user wants to know how a job ends and, with ``events``, what it says."""

    job_id: JobId
    events: bool = False


@value()
class UnwatchAsked:
    """Nobody here wants to know anything more of a job; it is submitted all the same."""

    job_id: JobId


@value()
class CancelAsked:
    """The user wants the job ended."""

    job_id: JobId
    reason: str


@value()
class RequestAsked:
    """The user asks something that may be asked again after a cut."""

    request_id: int
    message: FromClient


Event = (
    Connected
    | Disconnected
    | Received
    | Tick
    | SubmitAsked
    | WatchAsked
    | UnwatchAsked
    | CancelAsked
    | RequestAsked
)


@value()
class Connect:
    """Open a connection, instead of any that is being opened."""


@value()
class Close:
    """End the session."""

    session: Session
    reason: str


@value()
class Send:
    """Give this to the coordinator, in order; dropped if the session is gone."""

    session: Session
    message: FromClient


@value()
class Welcomed:
    """The coordinator is there and speaks our protocol."""

    epoch: int


@value()
class JobAccepted:
    """The job is safe with the coordinator."""

    job_id: JobId


@value()
class JobRefused:
    """The coordinator did not keep the job, or does not know it."""

    job_id: JobId
    code: str
    message: str


@value()
class JobFinished:
    """The job's one outcome; said once, and again to who asks about a job that has ended."""

    outcome: Outcome


@value()
class JobSpoke:
    """New events of a job, in order, each said once."""

    job_id: JobId
    events: tuple[JobEvent, ...]
    is_behind: bool = False
    """Whether it said more, which has to be asked for."""


@value()
class JobMoved:
    """Where a job is now."""

    change: StateChanged


@value()
class Answered:
    """The answer to a RequestAsked."""

    request_id: int
    data: JsonValue
    error: str | None
    lacks: str | None = None
    """The feature without which the coordinator cannot be asked."""


Effect = (
    Connect
    | Close
    | Send
    | Welcomed
    | JobAccepted
    | JobRefused
    | JobFinished
    | JobSpoke
    | JobMoved
    | Answered
)
