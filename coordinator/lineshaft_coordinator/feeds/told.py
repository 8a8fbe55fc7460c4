"""What a feed tells: news of one job, the latest of each sort, and how a dialect writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.outcomes import Outcome

News: TypeAlias = "JobEvent | StateChanged | Ended"
"""Something happened to a job, and is kept already; an Ended is the last."""
Place: TypeAlias = tuple[int, int]
"""Of an event in its job's history: (attempt, seq)."""

BEGINNING: Place = (0, 0)
NAMES_MAX = 4096
"""Metrics of one job of which the latest values are known; the first ones go."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job ended."""

    outcome: Outcome
    at: float | None
    """Seconds since 1970; None if it is not known."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a dialect, shared by all viewers who get it."""

    data: bytes
    place: Place | None = None
    """Of the event that it tells; None for what is not numbered."""
    is_droppable: bool = False
    """It is one of many, and a viewer who falls behind may do without."""
    is_last: bool = False
    """Nothing follows: the viewer is let go once it has this."""


@dataclass(frozen=True, slots=True)
class Point:
    """The latest value of one metric."""

    value: object
    step: int | None
    at: float
    """Seconds since 1970."""
    place: Place


@dataclass(slots=True)
class Latest:
    """What a viewer who comes late is told first."""

    job_id: str
    state: StateChanged | None = None
    """None for a job that has ended."""
    ended: Ended | None = None
    metrics: dict[str, Point] = field(default_factory=dict[str, Point])
    metrics_event: JobEvent | None = None
    progress: JobEvent | None = None
    checkpoint: JobEvent | None = None
    place: Place = BEGINNING
    """Up to here everything is in it."""

    def fold(self, news: News) -> None:
        """Take in news, in any order: a later place wins."""
        match news:
            case StateChanged():
                self.state = news if self.ended is None else None
            case Ended():
                self.state, self.ended = None, news
            case JobEvent():
                self._fold_event(news)

    def fold_all(self, news: Sequence[News]) -> None:
        """Likewise, all of them."""
        for each in news:
            self.fold(each)

    def _fold_event(self, event: JobEvent) -> None:
        place = place_of(event)
        self.place = max(self.place, place)
        match event.kind, event.body:
            case "metrics", {"metrics": dict(values), **rest}:
                if self.metrics_event is None or place_of(self.metrics_event) < place:
                    self.metrics_event = event
                step = rest.get("step")
                for name, value in values.items():
                    known = self.metrics.get(name)
                    if known is None or known.place < place:
                        at_step = step if isinstance(step, int) else None
                        self.metrics[name] = Point(value, at_step, event.at, place)
                while len(self.metrics) > NAMES_MAX:
                    del self.metrics[next(iter(self.metrics))]
            case "progress", _:
                if self.progress is None or place_of(self.progress) < place:
                    self.progress = event
            case "checkpoint", _:
                if self.checkpoint is None or place_of(self.checkpoint) < place:
                    self.checkpoint = event
            case _:
                pass  # What happened once is not a state.


class Dialect(Protocol):
    """How one sort of viewer reads news. Equal dialects share what they encode."""

    def __hash__(self) -> int:
        """For finding what was encoded already."""
        ...

    def snapshot(self, latest: Latest, behind: Place) -> Message | None:
        """Tell a viewer who comes late where the job is, and behind which place it is told more.

        Returns:
            What to tell; None: nothing.
        """
        ...

    def message(self, news: News) -> Message | None:
        """Tell news; None: this dialect does not speak of it."""
        ...


class Told:
    """One piece of news, encoded at most once for each dialect."""

    __slots__ = ("_encoded", "news")

    def __init__(self, news: News) -> None:
        self.news = news
        self._encoded: dict[Dialect, Message | None] = {}

    def by(self, dialect: Dialect) -> Message | None:
        """What the dialect says of it."""
        try:  # Asked once for each viewer: one look is all that it should take.
            return self._encoded[dialect]
        except KeyError:
            message = self._encoded[dialect] = dialect.message(self.news)
            return message


def place_of(event: JobEvent) -> Place:
    """Where an event stands in its job's history."""
    return event.attempt, event.seq
