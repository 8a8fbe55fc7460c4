"""The whole vocabulary between the worker's core and its shell."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import BlobId, JobId, Session
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import AttemptResult, Outcome
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.worker_messages import Assign, FromWorker, ToWorker


class AttemptKey(NamedTuple):
    """One try of one job."""

    job_id: JobId
    attempt: int


# --- events ---


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection asked for is open."""

    session: Session


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session is gone, or could not be opened (``session`` is then None)."""

    session: Session | None


@dataclass(frozen=True, slots=True)
class Received:
    """The coordinator said something."""

    session: Session
    message: ToWorker


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline the core asked for has passed."""


@dataclass(frozen=True, slots=True)
class BlobsArrived:
    """What a FetchBlobs asked for is here."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class BlobsFailed:
    """What a FetchBlobs asked for cannot be had."""

    key: AttemptKey
    message: str


@dataclass(frozen=True, slots=True)
class BlobGone:
    """A blob fell out of the worker's cache."""

    blob_id: BlobId


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """The attempt has been running for a while."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class AttemptSpoke:
    """The attempt said something; numbered, in order."""

    key: AttemptKey
    events: tuple[JobEvent, ...]


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """No process of the attempt is left.

    ``must_store`` says that its result lies in a file and must be stored before it is told.
    """

    key: AttemptKey
    result: AttemptResult
    must_store: bool = False


@dataclass(frozen=True, slots=True)
class ResultStored:
    """The coordinator has the blob of the attempt's result."""

    key: AttemptKey
    payload: Payload


@dataclass(frozen=True, slots=True)
class ResultRefused:
    """The coordinator will not have the blob of the attempt's result."""

    key: AttemptKey
    message: str


@dataclass(frozen=True, slots=True)
class AttemptReturned:
    """The attempt was taken back from its lane before it started."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class ChildAsked:
    """A running plan wants a node done elsewhere and waits for it."""

    key: AttemptKey
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class LoadSampled:
    """How busy the machine is; ``capacity`` is set when what it offers changed."""

    load: dict[str, JsonValue]
    capacity: Capacity | None = None


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Take nothing more; with ``is_hurried`` end what runs as well."""

    is_hurried: bool = False


Event = (
    Connected
    | Disconnected
    | Received
    | Tick
    | BlobsArrived
    | BlobsFailed
    | BlobGone
    | AttemptBegan
    | AttemptSpoke
    | AttemptEnded
    | ResultStored
    | ResultRefused
    | AttemptReturned
    | ChildAsked
    | LoadSampled
    | DrainAsked
)

# --- effects ---


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection, instead of any that is being opened."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the session."""

    session: Session
    reason: str


@dataclass(frozen=True, slots=True)
class Send:
    """Give this to the coordinator, in order; dropped if the session is gone."""

    session: Session
    message: FromWorker


@dataclass(frozen=True, slots=True)
class FetchBlobs:
    """Get these blobs from the coordinator and keep them while the attempt needs them."""

    key: AttemptKey
    blob_ids: tuple[BlobId, ...]


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run it on this lane: at once, or after what the lane was given before."""

    key: AttemptKey
    assign: Assign
    lane: int


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """End it, and say so when no process of it is left."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class RevokeAttempt:
    """Take it back from its lane if it has not started."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class StoreResult:
    """Give the coordinator the blob of the attempt's result."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class ForgetAttempt:
    """Nobody needs anything of the attempt any more."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class AnswerChild:
    """Tell the waiting plan how its child job ended."""

    key: AttemptKey
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do: the daemon may end."""


Effect = (
    Connect
    | Close
    | Send
    | FetchBlobs
    | StartAttempt
    | StopAttempt
    | RevokeAttempt
    | StoreResult
    | ForgetAttempt
    | AnswerChild
    | Leave
)
