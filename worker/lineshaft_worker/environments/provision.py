"""Environments as the worker daemon wants them: ask for one, be told when it is there, use it."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import platform
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lineshaft_runtime.requirements import Requirements, parse_requirements
from lineshaft_worker.environments.building import (
    BuildOrder,
    Builds,
    EnvironmentFailedError,
    Listener,
)
from lineshaft_worker.environments.importable import missing_in
from lineshaft_worker.environments.interpreters import Interpreter, choose
from lineshaft_worker.environments.sources import Sources, without_password
from lineshaft_worker.environments.store import EnvironmentStore
from lineshaft_worker.environments.support import (
    PLAN_REQUIREMENTS,
    PTH,
    VARIABLE,
    support_folder,
)

logger = logging.getLogger(__name__)

GIB = 1024**3
_FORM = "1"
"""Of an environment; another one makes other keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings."""

    root: Path
    """Folder of all environments; daemons of one user may share it."""
    sources: Sources = field(default_factory=Sources)
    size_bytes_max: int = 100 * GIB
    """Of all environments; above it those go that were not used for longest."""
    free_bytes_min: int = 2 * GIB
    """Nothing is built when less would be free on the disk."""
    build_s_max: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The environment that a job asks for."""

    requirements: str = ""
    """As in a requirements.txt."""
    requires_python: str | None = None
    """As in a project: `>=3.11`."""
    minor: str | None = None
    """The only Python version possible, as 3.12."""
    is_for_plan: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an environment is, and what its programs are started with."""

    interpreter: Path
    variables: Mapping[str, str]
    lock: int
    """To be inherited by what runs there, so that it is not removed."""


class Environments:
    """See the module. Everything happens in one event loop.

    Args:
        settings: Of the operator.
        interpreters: Of this machine, our own first.
        find_uv: Returns the path of uv. Raises FileNotFoundError, ImportError.
    """

    def __init__(
        self,
        settings: Settings,
        interpreters: Sequence[Interpreter],
        *,
        find_uv: Callable[[], str],
    ) -> None:
        self._settings, self._interpreters = settings, tuple(interpreters)
        self._find_uv = find_uv
        self.store = EnvironmentStore(settings.root)
        self._builds = Builds(timeout_s=settings.build_s_max)
        self._known: dict[Wanted, tuple[str, Interpreter, Requirements]] = {}
        self._locks: dict[str, int] = {}
        self._users: dict[str, int] = {}

    @property
    def pythons(self) -> tuple[str, ...]:
        """The versions that jobs can have, as 3.12; our own first."""
        return tuple(each.minor for each in self._interpreters)

    async def open(self) -> None:
        """Remove what killed builders have left.

        Raises:
            OSError: The folder cannot be used.
        """
        self.store.make()
        removed = await asyncio.to_thread(self.store.sweep)
        if removed:
            logger.info("removed half-built environments", extra={"count": len(removed)})

    async def synced(self) -> None:
        """Wait until all that was built is safe on the disk."""
        await self._builds.close()

    async def close(self) -> None:
        """Let go of everything; what runs keeps its own hold."""
        await self._builds.close()
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    async def provide(self, wanted: Wanted, tell: Listener) -> str:
        """Have the environment, building it if need be; returns its key, held.

        Call `release` with the key when it is no longer needed.

        Raises:
            EnvironmentFailedError: It cannot be built.
            LineshaftError: What is asked for is not possible here.
            OSError: The folder cannot be used.
        """
        key, interpreter, requirements = self._plan(wanted)
        if self._hold(key):
            return key
        await self._make_room()
        order = BuildOrder(
            root=self.store.root,
            key=key,
            uv=self._uv(),
            python=interpreter.path,
            requirements=requirements.text() if requirements.lines else "",
            arguments=tuple(self._settings.sources.arguments(requirements)),
            pth=PTH,
            manifest={
                "python": interpreter.version,
                "requirements": [without_password(line) for line in requirements.lines],
            },
        )
        # Twice, for it may be removed as soon as its builder is gone.
        for _ in range(2):
            await self._builds.build(order, tell)
            if self._hold(key):
                await self._prune()
                return key
        raise EnvironmentFailedError("the environment was removed as soon as it was built")

    def provide_at_once(self, wanted: Wanted) -> str | None:
        """Do the same for an environment that is there; None if it is not."""
        known = self._known.get(wanted)
        return known[0] if known is not None and self._hold(known[0]) else None

    def release(self, key: str) -> None:
        """Somebody needs the environment no longer."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            os.close(self._locks.pop(key))

    def place(self, key: str) -> Place:
        """Where a held environment is.

        Raises:
            OSError: Our own code cannot be made importable in it.
        """
        lock = self._locks.get(key)
        folder = self.store.folder(key)
        minor = next((each.name[6:] for each in (folder / "lib").glob("python3.*")), None)
        if lock is None or minor is None:
            raise FileNotFoundError(errno.ENOENT, "the environment is not here", str(folder))
        interpreter = folder / "bin" / "python"
        support = support_folder(self.store.root, minor)
        variables = {
            VARIABLE: str(support),
            "VIRTUAL_ENV": str(folder),
            "PATH": f"{folder}/bin:{os.environ.get('PATH', '/usr/bin:/bin')}",
        }
        return Place(interpreter, variables, lock)

    def missing(self, key: str, names: Sequence[str]) -> list[str]:
        """Return modules that cannot be imported in a held environment; none if that is not sure.

        Raises:
            OSError: It cannot be read.
        """
        support = Path(self.place(key).variables[VARIABLE])
        return missing_in(self.store.folder(key), names, support=support)

    def _plan(self, wanted: Wanted) -> tuple[str, Interpreter, Requirements]:
        known = self._known.get(wanted)
        if known is not None:
            return known
        requirements = parse_requirements([wanted.requirements])
        self._settings.sources.check(requirements)
        interpreter = choose(
            self._interpreters, minor=wanted.minor, requires=wanted.requires_python
        )
        if wanted.is_for_plan and interpreter.minor != self._interpreters[0].minor:
            requirements = requirements.merged(parse_requirements(PLAN_REQUIREMENTS))
        planned = (self._key(interpreter, requirements), interpreter, requirements)
        if len(self._known) >= 1000:
            self._known.clear()
        self._known[wanted] = planned
        return planned

    def _key(self, interpreter: Interpreter, requirements: Requirements) -> str:
        parts = (
            _FORM,
            requirements.text(),
            interpreter.version,
            str(interpreter.path),
            sysconfig.get_platform(),
            "-".join(platform.libc_ver()),
            self._settings.sources.identity(),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    def _hold(self, key: str) -> bool:
        if key not in self._locks:
            lock = self.store.hold(key)
            if lock is None:
                return False
            self._locks[key] = lock
        self._users[key] = self._users.get(key, 0) + 1
        return True

    async def _make_room(self) -> None:
        floor = self._settings.free_bytes_min
        if self.store.free_bytes() >= floor:
            return
        await self._prune()
        if (free := self.store.free_bytes()) < floor:
            raise EnvironmentFailedError(
                f"only {free / GIB:.3g} GiB are free at {self.store.root}, and nothing is built "
                f"below {floor / GIB:.3g} GiB: 'uv cache prune' and 'lineshaft env prune' make room"
            )

    async def _prune(self) -> None:
        settings = self._settings
        with contextlib.suppress(OSError):
            removed = await asyncio.to_thread(
                lambda: self.store.prune(
                    size_bytes_max=settings.size_bytes_max, free_bytes_min=settings.free_bytes_min
                )
            )
            if removed:
                logger.info("removed environments to make room", extra={"count": len(removed)})

    def _uv(self) -> str:
        try:
            return self._find_uv()
        except (ImportError, FileNotFoundError) as error:
            raise EnvironmentFailedError(
                "this worker has no uv, which builds environments: pip install 'lineshaft[worker]'"
            ) from error


def find_uv() -> str:
    """Return where uv is.

    Raises:
        ImportError: It is not installed.
        FileNotFoundError: Its program is gone.
    """
    from uv import find_uv_bin  # noqa: PLC0415 - only who builds needs it

    return str(find_uv_bin())
