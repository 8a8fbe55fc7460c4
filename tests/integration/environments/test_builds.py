"""Environments are built once, shared, and never half."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from tests.integration.environments.wheels import make_wheel, sha256_of

from lineshaft_protocol.errors import LineshaftError
from lineshaft_worker.environments.building import EnvironmentFailedError, Progress
from lineshaft_worker.environments.interpreters import NoSuchPythonError
from lineshaft_worker.environments.provision import Environments, Wanted
from lineshaft_worker.environments.sources import SourceNotAllowedError

Make = Callable[..., Awaitable[Environments]]


def nothing(_progress: Progress) -> None:
    pass


def leftovers(environments: Environments) -> list[str]:
    return [each.name for each in environments.store.root.glob(".partial-*")]


async def said_in(environments: Environments, key: str, code: str) -> str:
    """What Python says in an environment, started as a runner is."""
    place = environments.place(key)
    done = await asyncio.to_thread(
        subprocess.run,
        [place.interpreter, "-P", "-c", code],
        env={**os.environ, **place.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def builders() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.is_running() and "builder.py" in " ".join(each.cmdline())
    ]


def hold_installs(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the install of `large` stand still, all but done, while the file returned is there.

    uv compiles what it has put in place, in an interpreter of the environment: that one waits.
    """
    held = packages.parent / "held"
    held.touch()
    is_held = f"lambda: os.path.exists({str(held)!r})"
    wait = f"import os, time; [time.sleep(0.01) for _ in iter({is_held}, False)]\n"
    make_wheel(packages, "large", files={"large.pth": wait.encode()})
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    return held


async def until_held(environments: Environments) -> None:
    """Return once uv has put `large` in place and compiles it."""
    root = environments.store.root
    await until(lambda: any(root.glob(".partial-*/lib/*/*/large-1.0.dist-info/RECORD")))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.01)


async def test_a_job_gets_what_it_asks_for_and_what_that_needs(make: Make) -> None:
    environments = await make()
    said: list[Progress] = []

    key = await environments.provide(Wanted(requirements="needy"), said.append)

    assert await said_in(environments, key, "import needy, tiny; print(tiny.version)") == "2.0"
    assert [*dict.fromkeys(each.phase for each in said)] == ["resolve", "download", "install"]
    assert any("needy==1.0" in each.text for each in said)


async def test_our_own_code_is_there_and_gives_way_to_the_jobs_own(
    make: Make, packages: Path
) -> None:
    make_wheel(packages, "cloudpickle", "99", files={"cloudpickle.py": b"version = 'theirs'\n"})
    environments = await make()

    key = await environments.provide(Wanted(requirements="cloudpickle"), nothing)

    code = "import cloudpickle; from lineshaft import run; run.log({}); print(cloudpickle.version)"
    assert await said_in(environments, key, code) == "theirs"


async def test_programs_of_an_environment_find_it_where_it_was_moved_to(make: Make) -> None:
    environments = await make()

    key = await environments.provide(Wanted(requirements="tiny==1.0"), nothing)

    program = environments.store.folder(key) / "bin" / "tiny"
    done = await asyncio.to_thread(subprocess.run, [program], capture_output=True, check=True)
    assert done.stdout == b"1.0\n"


async def test_the_same_requirements_written_otherwise_are_the_same_environment(
    make: Make,
) -> None:
    environments = await make()

    some = await environments.provide(Wanted(requirements="tiny >= 1\nneedy"), nothing)
    same = await environments.provide(Wanted(requirements="# both\nNeedy\nTINY>=1\n"), nothing)
    other = await environments.provide(Wanted(requirements="tiny>=2\nneedy"), nothing)

    assert some == same != other


async def test_jobs_that_want_one_environment_at_once_share_one_build(make: Make) -> None:
    one, other = await make(), await make()
    said: list[Progress] = []
    wanted = Wanted(requirements="needy")

    keys = await asyncio.gather(
        *(each.provide(wanted, said.append) for each in (one, other) for _ in range(16))
    )

    assert len(set(keys)) == 1
    entries = one.store.entries()
    assert [entry.key for entry in entries] == [keys[0]]
    # Each of the 16 hears the one build; those of the other daemon at most that it is waited for.
    installed = [each for each in said if each.text.startswith("Installed")]
    assert len(installed) == 16
    assert leftovers(one) == []


async def test_an_environment_outlives_its_daemon(make: Make) -> None:
    first = await make()
    key = await first.provide(Wanted(requirements="tiny"), nothing)
    built_at = first.store.entries()[0].built_at
    await first.close()

    second = await make()
    again = await second.provide(Wanted(requirements="tiny"), nothing)

    assert (again, second.store.entries()[0].built_at) == (key, built_at)


@pytest.mark.parametrize("victim", ["builder", "uv"])
async def test_a_build_that_is_killed_leaves_nothing_that_is_used(
    make: Make, packages: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    held = hold_installs(packages, monkeypatch)
    environments = await make()
    wanted = Wanted(requirements="large")
    waiting = asyncio.gather(
        *(environments.provide(wanted, nothing) for _ in range(32)), return_exceptions=True
    )
    await until_held(environments)

    (builder,) = await builders()
    killed = builder if victim == "builder" else builder.children()[0]
    killed.kill()
    ends = await waiting
    held.unlink()

    assert all(isinstance(end, EnvironmentFailedError) for end in ends), ends[0]
    assert environments.store.entries() == []
    key = await environments.provide(wanted, nothing)
    assert await said_in(environments, key, "import large; print('whole')") == "whole"
    assert leftovers(environments) == []


async def test_a_cancelled_wait_ends_the_build_when_nobody_else_waits(
    make: Make, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_installs(packages, monkeypatch)
    environments = await make()
    wanted = Wanted(requirements="large")
    waits = [asyncio.create_task(environments.provide(wanted, nothing)) for _ in range(2)]
    await until_held(environments)

    waits[0].cancel()
    await asyncio.wait([waits[0]])
    still_building = await builders()
    waits[1].cancel()
    await asyncio.wait([waits[1]])

    assert len(still_building) == 1
    assert await builders() == []
    assert leftovers(environments) == []


async def test_what_a_killed_daemon_left_is_removed_at_the_next_start(
    make: Make, tmp_path: Path
) -> None:
    root = tmp_path / "environments"
    (root / ".partial-abc-1234" / "lib").mkdir(parents=True)
    (root / ".trash-99").mkdir()

    environments = await make(root)

    assert [each.name for each in root.iterdir() if not each.name.endswith(".lock")] == []
    assert environments.store.entries() == []


async def test_hashes_that_do_not_match_are_refused(make: Make, packages: Path) -> None:
    environments = await make()
    right = sha256_of(packages / "tiny-1.0-py3-none-any.whl")
    line = "--require-hashes\ntiny==1.0 --hash=sha256:"

    with pytest.raises(EnvironmentFailedError, match=r"(?i)hash"):
        await environments.provide(Wanted(requirements=line + "0" * 64), nothing)
    key = await environments.provide(Wanted(requirements=line + right), nothing)

    assert await said_in(environments, key, "import tiny; print(tiny.version)") == "1.0"
    assert leftovers(environments) == []


async def test_a_damaged_package_fails_and_its_mended_form_works(
    make: Make, packages: Path
) -> None:
    environments = await make()
    path = make_wheel(packages, "lsfresh")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(EnvironmentFailedError) as failed:
        await environments.provide(Wanted(requirements="lsfresh"), nothing)
    path.write_bytes(whole)
    key = await environments.provide(Wanted(requirements="lsfresh"), nothing)

    assert failed.value.lines
    assert await said_in(environments, key, "import lsfresh; print(1)") == "1"


async def test_an_index_that_is_down_fails_with_its_address(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    environments = await make()
    wanted = Wanted(requirements="--index-url http://127.0.0.1:9/simple\nunheard-of")

    with pytest.raises(SourceNotAllowedError, match=r"127\.0\.0\.1:9.*--allow-index"):
        await environments.provide(wanted, nothing)
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(EnvironmentFailedError, match=r"127\.0\.0\.1:9"):
        await environments.provide(Wanted(requirements="unheard-of"), nothing)

    assert leftovers(environments) == []


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        (Wanted(requirements="nosuch"), EnvironmentFailedError, "nosuch"),
        (Wanted(requirements="tiny==9"), EnvironmentFailedError, "tiny==9"),
        (Wanted(requirements="tiny==1\nneedy"), EnvironmentFailedError, "tiny"),
        (Wanted(requirements="tiny ~~ 2"), LineshaftError, "no requirement"),
        (Wanted(requirements="./here"), LineshaftError, "means nothing on the worker"),
        (Wanted(minor="2.7"), NoSuchPythonError, r"asks for Python 2\.7; this worker has 3\."),
        (Wanted(requires_python="<3"), NoSuchPythonError, "asks for Python <3"),
        (Wanted(requires_python="nonsense"), NoSuchPythonError, "nonsense"),
        (
            Wanted(requirements="tiny @ https://evil.example/tiny-1.0-py3-none-any.whl"),
            SourceNotAllowedError,
            "evil",
        ),
    ],
)
async def test_what_cannot_be_made_says_why(
    make: Make, wanted: Wanted, kind: type[LineshaftError], says: str
) -> None:
    environments = await make()

    with pytest.raises(kind, match=says):
        await environments.provide(wanted, nothing)

    assert (environments.store.entries(), leftovers(environments)) == ([], [])
