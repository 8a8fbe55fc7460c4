"""A runner as its daemon sees it: a process, a connection when there is one, attempts in order."""

import asyncio
import shutil
import time
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from lineshaft_runtime import kept
from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.cgroups import Cgroups
from lineshaft_worker.execution.orders import Shape
from lineshaft_worker.execution.process import RunnerProcess, kill_marked
from lineshaft_worker.execution.reports import Failure
from lineshaft_worker.execution.tail import Streams
from lineshaft_worker.runner.codes import CodeShelf
from lineshaft_worker.runner.files import attempt_file, read_current
from lineshaft_worker.runner.frames import (
    INLINE_BYTES_MAX,
    Ack,
    Answer,
    Done,
    Execute,
    Frame,
    Hello,
    Revoke,
    Revoked,
    Spawn,
    encode,
)
from lineshaft_worker.runner.records import decode_current

ACKS_MAX = 64
"""Acknowledgements wait for the next order, but no more than this many, and no longer than"""
ACK_S_MAX = 0.05


class HostOwner(Protocol):
    """Who hears from a runner."""

    def on_ready(self, host: "Host", hello: Hello) -> None:
        """The runner said hello."""
        ...

    def on_done(self, host: "Host", done: Done) -> None:
        """An attempt's code has ended."""
        ...

    def on_revoked(self, host: "Host", revoked: Revoked) -> None:
        """The runner answered whether it could leave an attempt out."""
        ...

    def on_spawn(self, host: "Host", spawn: Spawn) -> None:
        """A plan wants a part run elsewhere."""
        ...

    def on_gone(self, host: "Host") -> None:
        """No process of the runner is left."""
        ...


class Host:
    """One runner. Attempts are executed in the order in which they are given."""

    def __init__(
        self,
        process: RunnerProcess,
        shape: Shape,
        owner: HostOwner,
        cgroups: Cgroups | None = None,
        *,
        is_adopted: bool = False,
    ) -> None:
        self.process = process
        self.shape = shape
        self.sent: OrderedDict[int, Attempt] = OrderedDict()
        """Attempts that were given and have not ended, by ticket; the first is being executed."""
        self.is_ready = False
        self.is_virgin = True
        self.is_freeze_asked = False
        """Its processes were told to stand still, now or before."""
        self.doubted = 0
        """Ticket of an attempt of which nobody knows whether the runner has heard of it."""
        self.is_closing = False
        """Gets no more attempts."""
        self.is_adopted = is_adopted
        """An earlier daemon started it."""
        self.stop_by: float | None = None
        """When all processes should be gone, on the monotonic clock."""
        self.born = time.monotonic()
        self.streams = Streams(process.folder)
        # A new runner's first words, as why it could not start, may be there already: they count.
        self.ends = self.streams.sizes() if is_adopted else [0, 0, 0]
        self._owner = owner
        self._cgroups = cgroups
        self._limit_bytes: int | None = None
        self._folder_text = str(process.folder)
        self._loop = asyncio.get_running_loop()
        self._shelf = CodeShelf[bool]()
        self._transport: asyncio.Transport | None = None
        self._unsent = bytearray()
        self._acks: list[int] = []
        self._is_flush_due = False
        self._is_ack_due = False
        self._is_gone = False
        process.watch(self._on_gone)

    @property
    def folder(self) -> Path:
        """Where everything of this runner is."""
        return self.process.folder

    def execute(self, attempt: Attempt) -> None:
        """Give the runner one more attempt.

        Raises:
            OSError: A large payload could not be written.
        """
        order = attempt.order
        assert order is not None, "only an order of this daemon is given to a runner"
        folder = self._folder_text
        code: bytes | str | None = None
        is_code_new = order.code_id is not None and self._shelf.get(order.code_id) is None
        if is_code_new:
            assert order.code is not None, "the core sends the code with each function"
            code = inlined(order.code, attempt_file(folder, attempt.ticket, "code"), attempt)
        if order.event_count:
            attempt.has_files = True
            first = attempt_file(folder, attempt.ticket, "first")
            Path(first).write_text(str(order.event_count), encoding="ascii")
        payload = inlined(order.payload, attempt_file(folder, attempt.ticket, "payload"), attempt)
        if order.files:
            attempt.has_files = True
            linked(order.files, Path(attempt_file(folder, attempt.ticket, "blobs")))
        if (saved := order.checkpoint) is not None:
            attempt.has_files = True
            path = attempt_file(folder, attempt.ticket, "resume")
            kept.describe(
                path, saved.blob, saved.name, is_folder=saved.is_folder, facts=saved.facts
            )
        frame = Execute(
            attempt.ticket, order.key.job_id, order.key.attempt, order.kind, order.name,
            order.code_id or "", code, payload, order.run_s, order.memory_bytes,
            order.lease_s, order.lease_grace_s,
        )  # fmt: skip
        # Only now, when nothing can keep the frame from being sent: the runner then has it too.
        if is_code_new and order.code_id is not None:
            self._shelf.put(order.code_id, True)
        is_awaited = not self.sent and self.is_ready
        self.sent[attempt.ticket] = attempt
        self.is_virgin = False
        if is_awaited:
            # The runner waits for it: another turn of the loop would cost it 20 µs.
            attempt.began = time.monotonic()
            self._limit(attempt)
            self._unsent += encode(frame)
            self.flush()
        else:
            self._send(frame)

    def revoke(self, ticket: int) -> None:
        """Ask that an attempt not begin; the owner hears the answer."""
        self._send(Revoke(ticket))
        self.flush()
        if self.is_ready:
            self.process.poke()

    def answer(self, attempt: Attempt, request: int, answer: bytes | Path | Failure) -> None:
        """Tell a waiting plan how its part ended."""
        if isinstance(answer, Failure):
            self._send(Answer(request, None, answer.fields()))
            return
        file = attempt_file(self._folder_text, attempt.ticket, f"answer-{request}")
        self._send(Answer(request, inlined(answer, file, attempt), None))

    def acknowledge(self, ticket: int) -> None:
        """Let the runner forget a result."""
        self._acks.append(ticket)
        if len(self._acks) >= ACKS_MAX:
            self.flush()
        elif not self._is_ack_due:
            self._is_ack_due = True
            self._loop.call_later(ACK_S_MAX, self._flush_acks)

    def stop(self, grace_s: float) -> None:
        """End all processes of the runner; the owner hears when they are gone."""
        self.is_closing = True
        by = time.monotonic() + grace_s
        self.stop_by = by if self.stop_by is None else min(by, self.stop_by)
        self.process.stop(grace_s)

    def attach(self, transport: asyncio.Transport, hello: Hello) -> None:
        """Take a connection that the runner opened; an older one is of no more use."""
        if self._transport is not None:
            self._transport.abort()
        self._transport = transport
        if self.is_ready:
            # What was on the way when the runner lost its connection is forgotten there.
            self._shelf = CodeShelf[bool]()
            self._unsent.clear()
        self._owner.on_ready(self, hello)
        self.is_ready = True
        self.begin_first()
        self.flush()

    def begins_now(self, ticket: int) -> list[int] | None:
        """Return where the output of the attempt that is being executed begins."""
        record = read_current(str(self.folder))
        if record is None:
            return None
        current = decode_current(record)
        return current.begins if current.ticket == ticket else None

    def begin_first(self) -> None:
        """Note that it is the turn of the first attempt."""
        if self.is_ready and self.sent:
            first = next(iter(self.sent.values()))
            first.began = first.began or time.monotonic()
            self._limit(first)

    def _limit(self, attempt: Attempt) -> None:
        """Have the kernel keep what is executed now within its memory."""
        if self._cgroups is not None and attempt.memory_bytes != self._limit_bytes:
            self._limit_bytes = attempt.memory_bytes
            if self._cgroups.limits_memory:
                self._cgroups.limit_memory(self.process.runner_id, attempt.memory_bytes)

    def kill_rest(self) -> bool:
        """Kill what a shim that was itself killed has left; say whether nothing is left."""
        if self._cgroups is not None:
            self._cgroups.kill(self.process.runner_id)
        return kill_marked(self.process.runner_id)

    def detach(self, transport: asyncio.Transport) -> None:
        """Hear that a connection is lost; a runner that still lives opens another."""
        if self._transport is transport:
            self._transport = None
            if self._is_gone:
                self._owner.on_gone(self)

    def _on_gone(self) -> None:
        # The last frames may still be in the socket; no process is left that holds its other end,
        # so its end is near. (Unless the descriptor was sent away: hence the timer.)
        self._is_gone = True
        if self._transport is None:
            self._owner.on_gone(self)
        else:
            self._loop.call_later(1.0, self._transport.abort)

    def take(self, frame: Frame) -> bool:
        """Take what the runner said; False if it may not say that."""
        match frame:
            case Done():
                self._owner.on_done(self, frame)
            case Revoked():
                self._owner.on_revoked(self, frame)
            case Spawn():
                self._owner.on_spawn(self, frame)
            case Execute() | Revoke() | Ack() | Answer() | Hello():
                return False
        return True

    def close(self) -> None:
        """Let go of files and connection; processes are not touched."""
        self.streams.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _flush_acks(self) -> None:
        self._is_ack_due = False
        self.flush()

    def _send(self, frame: Frame) -> None:
        self._unsent += encode(frame)
        # Orders given in one turn of the loop leave together: that is two thirds of the
        # difference between 9,000 and 20,000 calls a second.
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits to be sent."""
        self._is_flush_due = False
        if self._transport is None or not self.is_ready:
            return
        if self._acks:
            acks, self._acks = self._acks, []
            self._unsent += encode(Ack(acks))
        if self._unsent:
            self._transport.write(bytes(self._unsent))
            self._unsent.clear()


def linked(files: tuple[Path, ...], folder: Path) -> None:
    """Have files under their names in a new folder: they stay, whatever becomes of the cache."""
    folder.mkdir(mode=0o700)
    for file in files:
        try:
            (folder / file.name).hardlink_to(file)
        except FileExistsError:  # Two files of the job have the same content.
            continue
        except OSError:  # Another file system, or one that has no links.
            shutil.copyfile(file, folder / file.name)


def inlined(data: bytes | Path, path: str, attempt: Attempt) -> bytes | str:
    """Return small data as they are, and the path of large ones."""
    if isinstance(data, Path):
        return str(data)
    if len(data) <= INLINE_BYTES_MAX:
        return data
    attempt.has_files = True
    Path(path).write_bytes(data)
    return path
