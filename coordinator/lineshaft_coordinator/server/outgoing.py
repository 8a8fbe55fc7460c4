"""What the core says, by the session that hears it."""

from collections.abc import Callable

from lineshaft_protocol.ids import Session
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign, Registered


class Outgoing:
    """The messages of one batch of effects, in order, before they are sent.

    Args:
        complete: Adds to a message what neither the core nor the journal may know, or need to.
    """

    def __init__(self, complete: Callable[[Wire], Wire]) -> None:
        self._complete = complete
        self.by_session: dict[Session, list[Wire]] = {}
        self.with_work: set[Session] = set()
        """Sessions of workers that are given work."""

    def add(self, session: Session, message: Wire) -> None:
        """Put a message behind those for the same session."""
        kind = type(message)
        if kind is Assign:
            self.with_work.add(session)
            message = self._complete(message)
        elif kind is Registered:
            message = self._complete(message)
        told = self.by_session.get(session)
        if told is None:
            self.by_session[session] = [message]
        else:
            told.append(message)

    def extend(self, session: Session, messages: list[Wire]) -> None:
        """Put messages behind those for the same session; they are complete."""
        self.by_session.setdefault(session, []).extend(messages)

    def take(self, session: Session) -> list[Wire]:
        """Take out what the session is to be told so far."""
        return self.by_session.pop(session, [])
