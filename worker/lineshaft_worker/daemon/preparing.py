"""Environments of attempts that have not started: asked for, waited for, told of, let go."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import JobKind, Payload
from lineshaft_protocol.outcomes import Failure
from lineshaft_protocol.worker_messages import Assign
from lineshaft_worker.core import io
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.daemon.cache import BlobCache
from lineshaft_worker.daemon.hits import Hits
from lineshaft_worker.environments.building import EnvironmentFailedError, Progress
from lineshaft_worker.environments.importable import missing_here
from lineshaft_worker.environments.provision import Environments, Wanted
from lineshaft_worker.execution.process import Launch, own_interpreter

EVENTS_MAX = 500
"""Most lines of a build in a job's history."""
FOUND_MAX = 10_000
"""Modules or environments that are remembered; clients may make up any number."""
PHASES = {"wait": "waiting for another daemon", "download": "downloading", "install": "installing"}


@dataclass(slots=True)
class _Preparation:
    key: AttemptKey
    since: float
    """When it was asked for, on the monotonic clock."""
    task: asyncio.Task[None] | None = None
    environment: str = ""
    """Its key, once it is held."""
    event_count: int = 0
    phase: str = ""


class Preparing:
    """See the module.

    Args:
        environments: Of this machine.
        cache: Where requirements lie that are too long to be carried.
        post: Tells the core.
    """

    def __init__(
        self, environments: Environments, cache: BlobCache, post: Callable[[io.Event], None]
    ) -> None:
        self._environments, self._cache, self._post = environments, cache, post
        self._preparations: dict[AttemptKey, _Preparation] = {}
        self.hits = Hits()
        """Environments that were there when they were asked for."""
        self._ending: set[asyncio.Task[None]] = set()
        self._found: dict[str, set[str]] = {}
        """Modules that were seen to be importable, by environment; ours has no key."""

    def perform(self, effect: io.PrepareEnvironment | io.CancelPreparing) -> None:
        """Do what the core wants."""
        match effect:
            case io.PrepareEnvironment(key=key, assign=assign):
                self.prepare(key, assign)
            case io.CancelPreparing(key=key):
                self.cancel(key)

    def prepare(self, key: AttemptKey, assign: Assign) -> None:
        """Have the environment; EnvironmentReady or EnvironmentFailed follows."""
        preparation = self._preparations[key] = _Preparation(key, time.monotonic())
        if not self._needs_environment(assign):
            if not self._lacks_modules(preparation, assign, has_own=False):
                self._post(io.EnvironmentReady(key))
            return
        try:
            wanted = self._wanted(assign)
            found = self._environments.provide_at_once(wanted)
        except (OSError, ValueError) as error:
            self._failed(key, f"its requirements cannot be read: {error}")
            return
        if found is not None:
            self._provided(preparation, assign, found)
            return
        preparation.task = asyncio.create_task(self._provide(preparation, assign, wanted))

    def cancel(self, key: AttemptKey) -> None:
        """Nobody waits for it any more."""
        preparation = self._preparations.get(key)
        if preparation is not None and preparation.task is not None:
            task, preparation.task = preparation.task, None
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def forget(self, key: AttemptKey) -> None:
        """The attempt needs its environment no longer."""
        self.cancel(key)
        preparation = self._preparations.pop(key, None)
        if preparation is not None and preparation.environment:
            self._environments.release(preparation.environment)

    def environment_of(self, key: AttemptKey) -> str:
        """The key of the environment that an attempt was given; empty for none."""
        preparation = self._preparations.get(key)
        return preparation.environment if preparation is not None else ""

    def launch(self, environment: str) -> Launch:
        """How runners of an environment are started.

        Raises:
            OSError: It is not here.
        """
        if not environment:
            return own_interpreter(environment)
        place = self._environments.place(environment)
        return Launch(place.interpreter, place.variables, (place.lock,))

    def event_count(self, key: AttemptKey) -> int:
        """How many events were told of the attempt."""
        preparation = self._preparations.get(key)
        return preparation.event_count if preparation is not None else 0

    async def close(self) -> None:
        """End all builds."""
        for key in tuple(self._preparations):
            self.forget(key)
        while self._ending:
            await asyncio.wait(tuple(self._ending))
        await self._environments.close()

    def _wanted(self, assign: Assign) -> Wanted:
        job = assign.job
        environment = job.environment
        payload = environment.requirements if environment is not None else None
        return Wanted(
            requirements=self._text(payload) if payload is not None else "",
            requires_python=environment.requires_python if environment is not None else None,
            minor=job.python,
            is_for_plan=job.kind in ("plan", "stream"),
        )

    def _text(self, payload: Payload) -> str:
        if payload.blob is None:
            return payload.inline_bytes().decode()
        return self._cache.path(BlobId(payload.blob)).read_text(encoding="utf-8")

    async def _provide(self, preparation: _Preparation, assign: Assign, wanted: Wanted) -> None:
        key = preparation.key

        def tell(progress: Progress) -> None:
            if preparation.task is not None:
                self._tell(preparation, progress)

        try:
            found = await self._environments.provide(wanted, tell)
        except EnvironmentFailedError as error:
            self._failed(key, error.reason, error.lines)
        except (LineshaftError, OSError) as error:
            self._failed(key, str(error))
        else:
            if preparation.task is None:  # Nobody waits: it came in the moment of the cancel.
                self._environments.release(found)
                return
            self._provided(preparation, assign, found)

    def _provided(self, preparation: _Preparation, assign: Assign, found: str) -> None:
        preparation.environment = found
        # One that is made, or waited for, is told of; the coordinator times those.
        if not preparation.event_count:
            self.hits.observe(time.monotonic() - preparation.since)
        if not self._lacks_modules(preparation, assign, has_own=True):
            self._post(io.EnvironmentReady(preparation.key))

    def _needs_environment(self, assign: Assign) -> bool:
        own = self._environments.pythons[0]
        return assign.job.environment is not None or assign.job.python not in (None, own)

    def _lacks_modules(self, preparation: _Preparation, assign: Assign, *, has_own: bool) -> bool:
        """Fail an attempt whose modules are not there; says whether it did."""
        found = self._found.setdefault(preparation.environment, set())
        names = [name for name in assign.job.modules or () if name not in found]
        missing: list[str] = []
        with contextlib.suppress(OSError):  # What cannot be looked at may be right.
            if not has_own:
                missing = missing_here(names)
            elif names:
                missing = self._environments.missing(preparation.environment, names)
        if missing:
            kind = assign.job.kind
            self._failed(preparation.key, _text_of(missing, has_own=has_own, kind=kind))
        else:
            found.update(names)
        if len(found) > FOUND_MAX or len(self._found) > FOUND_MAX:
            self._found.clear()
        return bool(missing)

    def _tell(self, preparation: _Preparation, progress: Progress) -> None:
        is_new = progress.phase != preparation.phase
        preparation.phase = progress.phase
        if preparation.event_count >= EVENTS_MAX and not is_new:
            return
        preparation.event_count += 1
        key = preparation.key
        event = JobEvent(
            job_id=key.job_id,
            attempt=key.attempt,
            seq=preparation.event_count,
            at=time.time(),
            kind="progress",
            body={
                "phase": progress.phase,
                "step": preparation.event_count,
                "total": None,
                "text": progress.text,
                "is_preparing": True,
            },
        )
        words = PHASES.get(progress.phase, "resolving its requirements")
        doing = f"{words}: {progress.text}" if progress.text else words
        self._post(io.EnvironmentProgress(key, doing[:1000], (event,)))

    def _failed(self, key: AttemptKey, message: str, lines: tuple[str, ...] = ()) -> None:
        failure = Failure(cause="environment", message=message, last_lines=lines)
        with contextlib.suppress(KeyError):
            self._preparations[key].task = None
        self._post(io.EnvironmentFailed(key, failure))


def _text_of(missing: list[str], *, has_own: bool, kind: JobKind) -> str:
    names = ", ".join(missing)
    is_one = len(missing) == 1
    where = "installed by its requirements" if has_own else "installed on its worker"
    if kind != "pipeline":
        them = "it" if is_one else "them"
        return (
            f"module{'' if is_one else 's'} {names} cannot be imported, and the {kind} or what it "
            f"is called with cannot be loaded without {them}: not {where}. Add the packages to "
            f"requirements=; your own modules are sent along if they lie in the folder you start "
            "from"
        )
    return (
        f"{'module' if is_one else 'modules'} {names} cannot be imported: neither among the job's "
        f"files nor {where}. Send {'it' if is_one else 'them'} along with files=, or add the "
        "packages that have "
        f"{'it' if is_one else 'them'} to requirements= (in the shell: --files, --with)"
    )
