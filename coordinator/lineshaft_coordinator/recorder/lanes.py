"""Which thread answers which question about runs.

A look into a table may take seconds, of a file that somebody made for it to take so long. It is
taken in one of a few threads of its own; all else is answered in order by one other thread, which
none of those holds up.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from lineshaft_coordinator.recorder.answers import Answers

LOOKS: Final = frozenset({"preview", "seed_preview"})
LOOKS_AT_ONCE: Final = 2
LOOKS_MAX: Final = 10
"""Those that wait included; each may take a process and its memory."""
WAIT_S: Final = 7.0
"""A look that waited longer would come after who asked has gone."""
BUSY: Final = "other files are being looked at: try again in a moment, or download it"

Send = Callable[[Mapping[str, Any], bytes], None]


class Lanes:
    """Answers questions.

    Args:
        answers: Who knows.
        send: Sends an answer; called from several threads, one at a time.
    """

    def __init__(self, answers: Answers, send: Send) -> None:
        self._answers, self._send = answers, send
        self._sending = threading.Lock()
        self._own = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._looks = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="looks")
        self._look_count = 0

    def ask(self, message: Mapping[str, Any]) -> None:
        """Have a question answered; returns at once."""
        if message["ask"] not in LOOKS:
            self._own.submit(self._answer, message)
            return
        with self._sending:
            is_full = self._look_count >= LOOKS_MAX
            self._look_count += not is_full
        if is_full:
            self.say({"id": message["id"], "error": BUSY, "status": 503}, b"{}")
        else:
            self._looks.submit(self._look, message, time.monotonic())

    def say(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Send something after the answers to what was asked before."""
        self._own.submit(self._tell, head, body)

    def close(self) -> None:
        """Answer no more. Looks that are being taken are not waited for."""
        self._looks.shutdown(wait=False, cancel_futures=True)
        self._own.shutdown(wait=True, cancel_futures=True)

    def _answer(self, message: Mapping[str, Any]) -> None:
        head, body = self._answers.answer(message)
        self._tell({"id": message["id"], **head}, body)

    def _look(self, message: Mapping[str, Any], asked_at: float) -> None:
        head, body = dict[str, Any](error=BUSY, status=503), b""
        if time.monotonic() - asked_at <= WAIT_S:
            head, body = self._answers.answer(message)
        with self._sending:
            self._look_count -= 1
            self._send({"id": message["id"], **head}, body)

    def _tell(self, head: Mapping[str, Any], body: bytes) -> None:
        with self._sending:
            self._send(head, body)
