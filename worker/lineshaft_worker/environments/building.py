"""Runs builders: one for each environment at a time, for as long as somebody waits for it."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError

from lineshaft_protocol.errors import LineshaftError
from lineshaft_worker.environments import builder

logger = logging.getLogger(__name__)

STOP_S_MAX = 10.0
"""How long a builder may take to clean up before it is killed; the next one then does it."""
BUILDS_MAX = 4
"""Builds of different environments at once: each is as many downloads as uv likes."""
LINE_BYTES_MAX = 64 * 1024
_PROGRAM = str(Path(builder.__file__))


class EnvironmentFailedError(LineshaftError):
    """An environment cannot be had; with the last lines of what tried to build it."""

    def __init__(self, reason: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason, self.lines = reason, lines


@dataclass(frozen=True, slots=True)
class Progress:
    """What a builder is doing."""

    phase: str
    """wait, resolve, download or install."""
    text: str


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """One environment to be built."""

    root: Path
    key: str
    uv: str
    python: Path
    requirements: str
    arguments: tuple[str, ...]
    """For `uv pip install`, besides the requirements."""
    pth: str
    manifest: dict[str, JsonValue]

    def encoded(self) -> bytes:
        """Return it as the builder reads it."""
        order: dict[str, JsonValue] = {
            "root": str(self.root),
            "key": self.key,
            "uv": self.uv,
            "python": str(self.python),
            "requirements": self.requirements,
            "arguments": [*self.arguments],
            "pth": self.pth,
            "manifest": self.manifest,
            "daemon_pid": os.getpid(),
        }
        return json.dumps(order).encode() + b"\n"


@dataclass(slots=True)
class _Build:
    task: asyncio.Task[None]
    listeners: list[Listener] = field(default_factory=list[Listener])
    last: Progress | None = None


class Builds:
    """Builds that are going on in this daemon.

    Args:
        timeout_s: Longest build, in seconds; what takes longer has failed.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._builds: dict[str, _Build] = {}
        self._places = asyncio.Semaphore(BUILDS_MAX)
        self._leftover: set[asyncio.Task[None]] = set()

    async def build(self, order: BuildOrder, tell: Listener) -> None:
        """Return when the environment is there; join a build of it that is going on.

        A build that nobody waits for any more is stopped: cancel the call.

        Raises:
            EnvironmentFailedError: It cannot be built.
        """
        build = self._builds.get(order.key)
        if build is None:
            task = asyncio.create_task(self._run(order), name=f"build {order.key}")
            build = self._builds[order.key] = _Build(task)
        elif build.last is not None:
            tell(build.last)
        build.listeners.append(tell)
        try:
            await asyncio.shield(build.task)
        finally:
            build.listeners.remove(tell)
            if not build.listeners and not build.task.done():
                # The next who wants it must begin anew, after this one has cleaned up.
                if self._builds.get(order.key) is build:
                    del self._builds[order.key]
                build.task.cancel()
                await asyncio.wait([build.task])

    async def close(self) -> None:
        """Wait until builders that have delivered are gone."""
        while self._leftover:
            await asyncio.wait(tuple(self._leftover))

    async def _run(self, order: BuildOrder) -> None:
        try:
            async with self._places:
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await self._watch(order)
                except TimeoutError:
                    raise EnvironmentFailedError(
                        f"the environment was not built within {self._timeout_s:g} s"
                    ) from None
        finally:
            build = self._builds.get(order.key)
            if build is not None and build.task is asyncio.current_task():
                del self._builds[order.key]

    async def _watch(self, order: BuildOrder) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", _PROGRAM,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        is_ready = False
        try:
            process.stdin.write(order.encoded())
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            is_ready = await self._listen(order.key, process.stdout)
        finally:
            if is_ready:
                # It has something left to do that nobody needs to wait for.
                task = asyncio.create_task(_collect(process))
                self._leftover.add(task)
                task.add_done_callback(self._leftover.discard)
            else:
                await _stop(process)

    async def _listen(self, key: str, stdout: asyncio.StreamReader) -> bool:
        phase = ""
        strays: deque[str] = deque(maxlen=builder.LAST_LINES_MAX)
        while line := await stdout.readline():
            said = _said(line)
            if said.ready:
                return True
            if said.failed is not None:
                raise EnvironmentFailedError(said.failed, said.lines)
            if said.phase or said.text:
                phase = said.phase or phase
                self._tell(key, Progress(phase, said.text))
            else:
                strays.append(line.decode(errors="replace").rstrip())
        raise EnvironmentFailedError("the builder of the environment was killed", tuple(strays))

    def _tell(self, key: str, progress: Progress) -> None:
        build = self._builds.get(key)
        if build is not None:
            build.last = progress
            for listener in tuple(build.listeners):
                listener(progress)


class _Said(BaseModel):
    """A line of the builder."""

    ready: bool = False
    failed: str | None = None
    lines: tuple[str, ...] = ()
    phase: str = ""
    text: str = ""


def _said(line: bytes) -> _Said:
    try:
        return _Said.model_validate_json(line)
    except ValidationError:
        return _Said()  # Python itself may have something to say.


async def _collect(process: asyncio.subprocess.Process) -> None:
    if process.stdout is not None:
        await process.stdout.read()
    await process.wait()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a builder and everything below it; it removes what it began."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    waiting = asyncio.create_task(_collect(process))
    done, _ = await asyncio.wait([waiting], timeout=STOP_S_MAX)
    if not done:
        logger.warning("killing a builder that does not end", extra={"builder_pid": process.pid})
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait([waiting])
