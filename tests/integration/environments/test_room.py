"""Environments go when room is needed, never while somebody uses them."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.environments.test_builds import leftovers, nothing
from tests.integration.environments.wheels import make_wheel

from lineshaft_worker.environments.building import EnvironmentFailedError
from lineshaft_worker.environments.provision import Environments, Wanted
from lineshaft_worker.environments.store import EnvironmentStore

Make = Callable[..., Awaitable[Environments]]


async def test_the_one_not_used_for_longest_goes_first(make: Make) -> None:
    environments = await make()
    keys: list[str] = []
    for number, wanted in enumerate(("tiny==1", "tiny==2", "needy")):
        key = await environments.provide(Wanted(requirements=wanted), nothing)
        environments.release(key)
        os.utime(environments.store.root / f"{key}.lock", (1000 + number, 1000 + number))
        keys.append(key)
    await environments.synced()
    entries = environments.store.entries()

    size_bytes = sum(each.size_bytes for each in entries)
    removed = environments.store.prune(size_bytes_max=size_bytes - 1)

    assert [each.key for each in removed] == keys[:1]
    assert [each.key for each in environments.store.entries()] == keys[:0:-1]


async def test_what_is_used_stays(make: Make) -> None:
    environments = await make()
    used = await environments.provide(Wanted(requirements="tiny"), nothing)
    idle = await environments.provide(Wanted(requirements="needy"), nothing)
    environments.release(idle)
    await environments.synced()

    removed = EnvironmentStore(environments.store.root).prune(size_bytes_max=0)

    assert [each.key for each in removed] == [idle]
    assert [each.key for each in environments.store.entries()] == [used]
    assert [each.is_used for each in environments.store.entries()] == [True]


async def test_nothing_is_built_below_the_floor(make: Make) -> None:
    environments = await make(free_bytes_min=2**60)

    with pytest.raises(EnvironmentFailedError, match=r"are free at .*env prune"):
        await environments.provide(Wanted(requirements="tiny"), nothing)


async def test_an_environment_whose_python_is_gone_is_built_again(make: Make) -> None:
    environments = await make()
    key = await environments.provide(Wanted(requirements="tiny"), nothing)
    environments.release(key)
    python = environments.store.folder(key) / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/such/python")

    again = await environments.provide(Wanted(requirements="tiny"), nothing)

    assert again == key
    assert python.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
async def test_a_disk_that_is_full_fails_and_leaves_nothing(
    make: Make, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "huge", files={f"huge_{n}.bin": os.urandom(1 << 20) for n in range(24)})
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    done = await asyncio.to_thread(subprocess.run, mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.decode()}")
    try:
        environments = await make(disk / "environments")
        with pytest.raises(EnvironmentFailedError, match=r"(?i)no space|full"):
            await environments.provide(Wanted(requirements="huge"), nothing)
        key = await environments.provide(Wanted(requirements="tiny"), nothing)
        assert environments.store.folder(key).is_dir()
        assert leftovers(environments) == []
        await environments.close()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(disk)], check=True)
