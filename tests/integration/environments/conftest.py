"""A folder of packages, and environments made from it alone."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.environments.wheels import make_wheel

from lineshaft_worker.environments.interpreters import find_interpreters
from lineshaft_worker.environments.provision import Environments, Settings, find_uv
from lineshaft_worker.environments.sources import Sources

Make = Callable[..., Environments]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of wheels; uv sees nothing else, and keeps its cache here."""
    folder = tmp_path / "packages"
    make_wheel(folder, "tiny")
    make_wheel(folder, "tiny", "2.0")
    make_wheel(folder, "needy", requires=("tiny>=2",))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    return folder


@pytest.fixture
async def make(packages: Path, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes what another daemon on this machine would have."""
    made: list[Environments] = []

    async def environments(root: Path | None = None, **settings: object) -> Environments:
        chosen = Settings(
            root=root or tmp_path / "environments",
            **{  # type: ignore[arg-type]  # as the test says
                "sources": Sources(find_links=(str(packages),)),
                "free_bytes_min": 0,
                **settings,
            },
        )
        new = Environments(chosen, find_interpreters((), tmp_path), find_uv=find_uv)
        await new.open()
        made.append(new)
        return new

    yield environments
    for each in made:
        await each.close()
