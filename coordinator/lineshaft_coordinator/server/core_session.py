"""A client session inside this process, for parts of a coordinator that submit or watch jobs."""

import asyncio
from collections.abc import Callable

from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import ClientHello, FromClient, Ping, Welcome
from lineshaft_protocol.version import __version__
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire


class CoreSession:
    """Opens a session, at once, and keeps it alive: the core takes a silent client for dead.

    Args:
        sessions: Where it is opened.
        client_id: Who it is, for people and for the fairness between clients.
        hear: Hears what the core says, in order. Must not block.
        on_lost: Told why, when the core ended the session.
        owner: Id of the token whose jobs it submits; None if it is nobody's.
    """

    def __init__(
        self,
        sessions: Sessions,
        client_id: str,
        hear: Callable[[Wire], None],
        on_lost: Callable[[str], None],
        *,
        owner: str | None = None,
    ) -> None:
        self._sessions, self._hear, self._on_lost = sessions, hear, on_lost
        self._timer: asyncio.TimerHandle | None = None
        self.id = sessions.open_local(self, owner)
        self.say(ClientHello(client_id=client_id, versions=Versions(lineshaft=__version__)))

    def say(self, message: FromClient) -> None:
        """Say something; when the session is over, to nobody."""
        self._sessions.speak(self.id, message)

    def close(self) -> None:
        """End the session; what was asked before is still done."""
        self._stop_timer()
        self._sessions.close_local(self.id)

    # --- for the sessions (LocalClient) ---

    def on_messages(self, messages: list[Wire]) -> None:
        """Hand on what the core says."""
        for message in messages:
            if isinstance(message, Welcome):
                self._ping_later(message.silence_s / 3)
            else:
                self._hear(message)

    def on_closed(self, reason: str) -> None:
        """Nothing more will be heard."""
        self._stop_timer()
        self._on_lost(reason)

    def _ping_later(self, interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(interval_s, self._ping, interval_s)

    def _ping(self, interval_s: float) -> None:
        self.say(Ping())
        self._ping_later(interval_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
