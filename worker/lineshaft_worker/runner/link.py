"""The runner's end of the connection to its daemon.

Theory. The main thread executes user code and does the I/O, so that a call costs no hop between
threads. It reads only between two attempts, with three exceptions: it waits for the answer to a
child job; another thread of a plan waits for one; or the daemon *pokes* (a signal), and the handler
looks at the socket between two instructions of the user's code. `_reading` says who reads. A poke
never interrupts this module itself: outside of user code it is only remembered.

The daemon may die at any moment. What it had sent and what has not begun is then forgotten (a new
daemon does not know it, and the coordinator gives it again). Results are kept until they are
acknowledged, and saved to files when there is no daemon to say them to.
"""

import contextlib
import os
import pickle
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from types import FrameType
from typing import cast

from lineshaft_worker.runner.codes import CodeShelf
from lineshaft_worker.runner.files import attempt_file, save_end, write_whole
from lineshaft_worker.runner.frames import (
    Ack,
    Answer,
    Done,
    Execute,
    Frame,
    FrameError,
    FrameReader,
    Hello,
    Revoke,
    Revoked,
    Spawn,
    encode,
)
from lineshaft_worker.runner.results import BytesLike, load

POKE = signal.SIGRTMIN + 3
SOCKET = "runners.sock"
UNACKNOWLEDGED_MAX = 1024
"""More results than this are saved to files instead of kept in memory."""
REDIAL_S_MAX = 1.0


class Function:
    """A function of the user's: loaded when it is first called, kept while it is on the shelf."""

    __slots__ = ("_loaded", "_source")

    def __init__(self, source: bytes | str) -> None:
        self._source: BytesLike | str | None = source
        self._loaded: object = None

    def load(self) -> Callable[..., object]:
        """Return the callable. What unpickling raises goes through; the next call tries again."""
        if self._source is not None:
            if isinstance(self._source, str):
                # The file goes with the attempt that brought it, also if this raises.
                self._source = load(self._source)
            self._loaded = pickle.loads(self._source)  # noqa: S301 - a runner is where it is done
            self._source = None
        return cast("Callable[..., object]", self._loaded)


class Link:
    """Frames from and to the daemon, over as many connections as it takes."""

    def __init__(self, folder: str, functions: CodeShelf[Function]) -> None:
        self._folder = folder
        self._functions = functions
        self._socket: socket.socket | None = None
        self._reader = FrameReader()
        self._pending: deque[tuple[Execute, Function | None]] = deque()
        self._unacknowledged: dict[int, bytes] = {}
        self._asked: dict[int, bytes] = {}
        self._answers: dict[int, Answer] = {}
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._answered = threading.Condition()
        self._ticket = 0
        self._is_in_user_code = False
        self._is_poked = False
        signal.signal(POKE, self._on_poke)
        signal.siginterrupt(POKE, False)

    def dial(self) -> bool:
        """Connect to the daemon and repeat what it has not acknowledged; False if none is there."""
        connection = _connect(self._folder)
        if connection is None:
            return False
        self._reader = FrameReader()
        self._socket = connection
        self._pending.clear()
        runner_id = self._folder.rpartition("/")[2]
        hello = encode(Hello(runner_id, os.getpid(), self._ticket))
        frames = (hello, *self._unacknowledged.values(), *self._asked.values())
        return self._send(b"".join(frames))

    def next(self) -> tuple[Execute, Function | None] | None:
        """Wait for the next attempt and its function.

        None when the daemon is gone: then `leave`, and end.
        """
        while not self._pending:
            if self._socket is None and not self.dial():
                return None
            with self._reading:
                self._receive()
        return self._pending.popleft()

    def enter_user_code(self, ticket: int) -> None:
        """Let pokes through until `leave_user_code`, which must follow whatever happens."""
        self._ticket = ticket
        self._is_in_user_code = True
        if self._is_poked:
            self._attend()

    def leave_user_code(self) -> None:
        """Only remember pokes from now on."""
        self._is_in_user_code = False

    def done(self, frame: Done) -> None:
        """Say that an attempt ended; repeat it on other connections until acknowledged."""
        self._ticket = 0
        encoded = encode(frame)
        self._unacknowledged[frame.ticket] = encoded
        self._send(encoded)
        if len(self._unacknowledged) > UNACKNOWLEDGED_MAX:
            ticket, oldest = next(iter(self._unacknowledged.items()))
            with contextlib.suppress(OSError):  # A full disk: then it stays in memory.
                write_whole(attempt_file(self._folder, ticket, "ended"), oldest)
                del self._unacknowledged[ticket]

    def ask(self, spawn: Spawn) -> Answer:
        """Have a part of a plan run elsewhere, and wait for its end, in any thread."""
        with self._undisturbed():
            frame = encode(spawn)
            self._asked[spawn.request] = frame
            self._send(frame)
            while (answer := self._answers.pop(spawn.request, None)) is None:
                self._wait_for_answers(spawn.request)
            del self._asked[spawn.request]
            return answer

    def leave(self) -> None:
        """Save what nobody has acknowledged, before the process ends."""
        if self._socket is None:
            self._save()

    def _wait_for_answers(self, request: int) -> None:
        # One of the waiting threads reads for all; the others are woken whenever it has read.
        if self._reading.acquire(blocking=False):
            try:
                if self._socket is None:
                    self._redial()
                if request not in self._answers:
                    self._receive()
            finally:
                self._reading.release()
                with self._answered:
                    self._answered.notify_all()
        else:
            with self._answered:
                # Timed: a poke's handler reads too, and must not touch this lock.
                self._answered.wait(0.05)

    @contextlib.contextmanager
    def _undisturbed(self) -> Generator[None]:
        if not self._is_in_user_code or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._is_in_user_code = False
        try:
            yield
        finally:
            self._is_in_user_code = True
            if self._is_poked:
                self._attend()

    def _on_poke(self, _number: int, _frame: FrameType | None) -> None:
        self._is_poked = True
        if self._is_in_user_code:
            self._attend()

    def _attend(self) -> None:
        """Look at the socket without waiting; if the daemon is another one now, greet it."""
        self._is_poked = False
        if not self._reading.acquire(blocking=False):
            return  # A thread waits for an answer: it reads this as well.
        # A second poke must not come in between.
        self._is_in_user_code = False
        try:
            if self._socket is not None:
                self._receive(socket.MSG_DONTWAIT)
            if self._socket is None:
                self.dial()
        finally:
            self._is_in_user_code = True
            self._reading.release()

    def _receive(self, flags: int = 0) -> None:
        connection = self._socket
        assert connection is not None, "who reads has a connection"
        try:
            data = connection.recv(1 << 16, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(connection)
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except FrameError:
            self._lose(connection)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Execute():
                if frame.code is not None:
                    self._functions.put(frame.code_id, Function(frame.code))
                # Taken from the shelf now: it may be gone when the attempt's turn comes.
                function = self._functions.get(frame.code_id) if frame.code_id else None
                self._pending.append((frame, function))
            case Revoke(ticket):
                found = [item for item in self._pending if item[0].ticket == ticket]
                for item in found:
                    self._pending.remove(item)
                self._send(encode(Revoked(ticket, bool(found))))
            case Ack(tickets):
                for ticket in tickets:
                    self._forget(ticket)
            case Answer(request):
                if request in self._asked:
                    self._answers[request] = frame
            case Hello() | Done() | Revoked() | Spawn():
                raise FrameError(f"{type(frame).__name__} is for the daemon")

    def _forget(self, ticket: int) -> None:
        if self._unacknowledged.pop(ticket, None) is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(attempt_file(self._folder, ticket, "ended"))  # noqa: PTH108 - no pathlib here

    def _send(self, data: bytes) -> bool:
        connection = self._socket
        if connection is None:
            return False
        try:
            with self._sending:
                connection.sendall(data)
        except OSError:
            self._lose(connection)
            return False
        return True

    def _lose(self, connection: socket.socket) -> None:
        """Forget a connection, and what came on it and has not begun."""
        if self._socket is connection:
            self._socket = None
            self._pending.clear()
        # Closing it would free its number for a thread that is just about to use it.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _redial(self) -> None:
        wait_s = 0.01
        while not self.dial():
            time.sleep(wait_s)
            wait_s = min(wait_s * 1.6, REDIAL_S_MAX)

    def _save(self) -> None:
        for ticket, frame in self._unacknowledged.items():
            # A full disk: what it cannot keep runs again, and the others are kept.
            with contextlib.suppress(OSError):
                save_end(self._folder, ticket, frame)
        self._unacknowledged.clear()


def _connect(folder: str) -> socket.socket | None:
    """Dial the daemon's socket, which lies two folders up.

    The folder is named by a descriptor, because a socket's path has 107 bytes at most.
    """
    state = os.open(f"{folder}/../..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{state}/{SOCKET}")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(state)
    return connection
