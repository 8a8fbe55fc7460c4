"""Builds environments before a job asks for them, for `lineshaft env prebuild`."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lineshaft_worker.devices.pythons import python_envs
from lineshaft_worker.environments.building import Progress
from lineshaft_worker.environments.interpreters import find_interpreters
from lineshaft_worker.environments.provision import Environments, Settings, Wanted, find_uv
from lineshaft_worker.environments.sources import ANYTHING, Sources


@dataclass(frozen=True, slots=True)
class Built:
    """An environment that is there now."""

    key: str
    is_new: bool
    """False if it had been built before."""


def build_ahead(
    root: Path,
    requirements: str,
    *,
    requires_python: str | None,
    python: str | None,
    index_url: str | None,
    find_links: tuple[str, ...],
    tell: Callable[[str, str], None],
) -> Built:
    """Build what a worker with the same settings would build for a job; blocks until it is there.

    Args:
        root: Folder of all environments.
        requirements: As in a requirements.txt.
        requires_python: Versions as in a project, as `>=3.11`.
        python: The only version possible, as 3.12.
        index_url: The worker's own.
        find_links: The worker's own.
        tell: Gets the phase and the text of each line that the builder says.

    Raises:
        EnvironmentFailedError: It cannot be built.
        LineshaftError: What is asked for is not possible here.
        OSError: The folder cannot be used.
    """
    # Who builds here may name any place: it is the operator.
    sources = Sources(index_url=index_url, find_links=find_links, allowed=(ANYTHING,))
    # What goes for room is the daemon's to decide: it knows the operator's limits.
    settings = Settings(root=root, sources=sources, size_bytes_max=sys.maxsize, free_bytes_min=0)
    found = find_interpreters(python_envs(os.environ), Path.home())
    environments = Environments(settings, found, find_uv=find_uv)
    wanted = Wanted(requirements=requirements, requires_python=requires_python, minor=python)
    return asyncio.run(_build(environments, wanted, tell))


async def _build(
    environments: Environments, wanted: Wanted, tell: Callable[[str, str], None]
) -> Built:
    has_built = False

    def pass_on(progress: Progress) -> None:
        nonlocal has_built
        has_built = has_built or progress.phase != "wait"
        tell(progress.phase, progress.text)

    environments.store.make()
    try:
        key = await environments.provide(wanted, pass_on)
    finally:
        await environments.close()
    return Built(key, has_built)
