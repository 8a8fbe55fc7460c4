"""The whole vocabulary between the worker's core and its shell."""

from typing import NamedTuple

from pydantic import JsonValue

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.figures import Figures
from lineshaft_protocol.ids import BlobId, JobId, Session
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.values import value
from lineshaft_protocol.worker_messages import (
    Assign,
    FromWorker,
    MeetingPlace,
    PauseMode,
    ToWorker,
)


class AttemptKey(NamedTuple):
    """One try of one job."""

    job_id: JobId
    attempt: int


# --- events ---


@value()
class Connected:
    """The connection asked for is open."""

    session: Session


@value()
class Disconnected:
    """The session is gone, or could not be opened (``session`` is then None)."""

    session: Session | None


@value()
class Received:
    """The coordinator said something."""

    session: Session
    message: ToWorker


@value()
class Tick:
    """A deadline the core asked for has passed."""


@value()
class BlobsArrived:
    """What a FetchBlobs asked for is here."""

    key: AttemptKey


@value()
class BlobsFailed:
    """What a FetchBlobs asked for cannot be had."""

    key: AttemptKey
    message: str


@value()
class EnvironmentReady:
    """What a PrepareEnvironment asked for is here, and stays until the attempt is forgotten."""

    key: AttemptKey


@value()
class EnvironmentFailed:
    """What a PrepareEnvironment asked for cannot be had."""

    key: AttemptKey
    failure: Failure


@value()
class EnvironmentProgress:
    """How far a PrepareEnvironment is: in words, and for the job's history."""

    key: AttemptKey
    doing: str
    events: tuple[JobEvent, ...] = ()


@value()
class BlobGone:
    """A blob fell out of the worker's cache."""

    blob_id: BlobId


@value()
class AttemptBegan:
    """The attempt has been running for a while."""

    key: AttemptKey


@value()
class AttemptSpoke:
    """The attempt said something; numbered, in order."""

    key: AttemptKey
    events: tuple[JobEvent, ...]


@value()
class AttemptEnded:
    """No process of the attempt is left.

    ``must_store`` says that its result or other files of it must be stored before it is told;
    ``gone_pid`` is the process that ended with it, None if its runner lives on.
    """

    key: AttemptKey
    result: AttemptResult
    must_store: bool = False
    gone_pid: int | None = None


@value()
class DevicesChecked:
    """The GPUs of an ended attempt were looked at; ``capacity`` says which are out of use."""

    key: AttemptKey
    capacity: Capacity


@value()
class ResultStored:
    """The coordinator has all blobs of the attempt, that of its result too if it has one."""

    key: AttemptKey
    payload: Payload | None


@value()
class ResultRefused:
    """The coordinator will not have the blob of the attempt's result."""

    key: AttemptKey
    message: str


@value()
class FileStored:
    """The coordinator has a file of the attempt, or will not have it."""

    key: AttemptKey
    file: KeptFile


@value()
class PauseSeen:
    """The attempt's processes stand still, or move; or it cannot pause."""

    key: AttemptKey
    is_frozen: bool
    problem: str | None = None


@value()
class AttemptReturned:
    """The attempt was taken back from its lane before it started."""

    key: AttemptKey


@value()
class ChildAsked:
    """A running plan wants a node done elsewhere and waits for it."""

    key: AttemptKey
    spec: JobSpec


@value()
class LoadSampled:
    """How busy the machine is; ``capacity`` is set when what it offers changed."""

    load: dict[str, JsonValue]
    capacity: Capacity | None = None
    figures: Figures | None = None


@value()
class MeetingMoved:
    """The port that was kept free for a gang is given out; the next one meets here."""

    meeting: MeetingPlace


@value()
class DrainAsked:
    """Take nothing more; with ``is_hurried`` end what runs as well."""

    is_hurried: bool = False


AttemptNews = AttemptBegan | AttemptSpoke | AttemptReturned | ChildAsked | FileStored | PauseSeen
SupplyNews = BlobsArrived | BlobsFailed | EnvironmentReady | EnvironmentFailed
BlobNews = SupplyNews | BlobGone | EnvironmentProgress | ResultStored | ResultRefused

Event = (
    Connected
    | Disconnected
    | Received
    | Tick
    | AttemptNews
    | BlobNews
    | AttemptEnded
    | DevicesChecked
    | LoadSampled
    | MeetingMoved
    | DrainAsked
)

# --- effects ---


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
    message: FromWorker


@value()
class KeepLeases:
    """Leases count from ``since``, also for what watches over attempts when we are dead."""

    since: float
    otherwise_s: float
    """The lease of attempts that were given without one, in seconds."""


@value()
class FetchBlobs:
    """Get these blobs from the coordinator and keep them while the attempt needs them."""

    key: AttemptKey
    blob_ids: tuple[BlobId, ...]


@value()
class PrepareEnvironment:
    """Have the environment that the job asks for, and keep it until the attempt is forgotten."""

    key: AttemptKey
    assign: Assign


@value()
class CancelPreparing:
    """Nobody waits for that environment any more: end what builds it."""

    key: AttemptKey


@value()
class StartAttempt:
    """Run it on this lane: at once, or after what the lane was given before."""

    key: AttemptKey
    assign: Assign
    lane: int


@value()
class StopAttempt:
    """End it, and say so when no process of it is left."""

    key: AttemptKey
    grace_s: float | None = None
    """The most between asking and killing, in seconds; ``None`` leaves it to the daemon."""


@value()
class RevokeAttempt:
    """Take it back from its lane if it has not started."""

    key: AttemptKey


@value()
class CheckDevices:
    """Wait until an ended attempt's GPUs have their memory back, or take them out of use."""

    key: AttemptKey
    devices: tuple[str, ...]
    gone_pid: int


@value()
class LookAgain:
    """Take what is on a device now for granted, and tell what it is like."""

    device: str


@value()
class StoreResult:
    """Give the coordinator the blobs of the attempt's result and files."""

    key: AttemptKey


@value()
class AbandonFiles:
    """Nobody waits for the attempt's files any more; its result is still stored."""

    key: AttemptKey


@value()
class ForgetFile:
    """The coordinator has this file on record."""

    key: AttemptKey
    file_id: str


@value()
class AskPause:
    """Have the attempt save and end, or stand still, or go on; harmless to repeat."""

    key: AttemptKey
    mode: PauseMode


@value()
class ForgetAttempt:
    """Nobody needs anything of the attempt any more."""

    key: AttemptKey


@value()
class AnswerChild:
    """Tell the waiting plan how its child job ended."""

    key: AttemptKey
    outcome: Outcome


@value()
class Leave:
    """Nothing is left to do: the daemon may end."""


Effect = (
    Connect
    | Close
    | Send
    | KeepLeases
    | FetchBlobs
    | PrepareEnvironment
    | CancelPreparing
    | StartAttempt
    | StopAttempt
    | RevokeAttempt
    | CheckDevices
    | LookAgain
    | StoreResult
    | AbandonFiles
    | ForgetFile
    | AskPause
    | ForgetAttempt
    | AnswerChild
    | Leave
)
