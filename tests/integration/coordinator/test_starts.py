"""A coordinator that cannot start says in one line what is in the way, and what to do."""

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.farm import DEADLINE_S, Farm
from tests.e2e.nursery import run_forked


def refused(site: Farm, *flags: str | Path) -> str:
    """Start a coordinator that must not start; returns the one line that it says."""
    command = ["-m", "lineshaft_coordinator", "--listen", "127.0.0.1:0", "--log-level", "warning"]
    ended = run_forked([*command, *map(str, flags)], site.environ)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    return line.removeprefix("lineshaft-coordinator: ")


def test_a_second_coordinator_names_the_folder_and_the_process(site: Farm) -> None:
    first = site.start_coordinator()

    line = refused(site, "--data", site.folder / "data")

    assert line == (
        f"{site.folder / 'data'} is in use by process {first.pid}; stop that coordinator first, "
        "or give this one a data folder of its own"
    )


def test_a_port_in_use_is_named(site: Farm, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        line = refused(site, "--data", tmp_path / "data", "--listen", f"127.0.0.1:{port}")

    assert line.startswith(f"127.0.0.1:{port} is in use by another process. ")
    assert "choose another port" in line


def test_a_data_folder_that_cannot_be_written_is_named(site: Farm, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    line = refused(site, "--data", tmp_path / "file" / "data")

    assert line.startswith(f"cannot write in {tmp_path / 'file' / 'data'}: Not a directory")
    assert "give the coordinator a folder that its user may write" in line


def test_a_data_folder_on_a_read_only_disk_is_named(site: Farm, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    line = refused(site, "--data", small_disk / "data")
    certified = refused(site, "--data", small_disk / "data", "--tls-self-signed")

    for said in (line, certified):
        assert f"cannot write in {small_disk}" in said
        assert "give the coordinator a folder that its user may write" in said


def test_a_home_that_cannot_be_written_is_named(site: Farm, tmp_path: Path) -> None:
    site.home.touch()

    line = refused(site, "--data", tmp_path / "data")

    assert f"cannot write in {site.home}" in line
    assert "LINESHAFT_HOME" in line


STOPPED_AT_ONCE = """
import os, signal, sys
from lineshaft_coordinator.__main__ import main
from lineshaft_coordinator.server import serve

announce = serve._announce

def announce_and_be_stopped(settings, port):
    announce(settings, port)
    os.kill(os.getpid(), signal.SIGTERM)

serve._announce = announce_and_be_stopped
sys.exit(main(sys.argv[1:]))
"""


def test_who_is_stopped_as_soon_as_it_is_announced_ends_in_order(site: Farm) -> None:
    data = site.folder / "data"
    flags = ["--listen", "127.0.0.1:0", "--data", str(data)]

    started = site.start("coordinator", "-c", STOPPED_AT_ONCE, *flags)

    assert started.popen.wait(DEADLINE_S) == 0, started.said()
    left = {path.name for path in data.iterdir()}
    assert "lineshaft.sqlite" in left
    assert not left & {"lineshaft.sqlite-wal", "store.open"}, "the store was closed"


def empty_database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA user_version = 1")
        return connection.serialize()


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (b"", "it is empty"),
        (empty_database(), "it has no tables"),
        (b"SQLite format 3\0" + bytes(84), "file is not a database"),
        (b"no database " * 400, "file is not a database"),
    ],
    ids=["empty", "no tables", "cut off", "something else"],
)
def test_a_damaged_store_names_its_file_and_is_left_alone(
    site: Farm, damage: bytes, detail: str
) -> None:
    assert site.start_coordinator().terminate() == 0
    database = site.folder / "data" / "lineshaft.sqlite"
    database.write_bytes(damage)

    line = refused(site, "--data", site.folder / "data")

    assert line.startswith(f"{database} is damaged: ")
    assert detail in line
    assert "restore the last backup" in line
    assert database.read_bytes() == damage


def test_records_that_contradict_each_other_are_damage_too(site: Farm) -> None:
    assert site.start_coordinator().terminate() == 0
    code = """
import asyncio, sys
from pathlib import Path
from tests.integration.store.samples import submitted
from lineshaft_coordinator.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await store.append(submitted("j1", b"no record"))
    await store.close()

asyncio.run(main())
"""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, site.folder / "data"], check=True, cwd=root)

    line = refused(site, "--data", site.folder / "data")

    assert line.startswith(f"{site.folder / 'data' / 'lineshaft.sqlite'} is damaged: ")
    assert "restore the last backup" in line


def test_a_certificate_that_is_none_is_named(site: Farm, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")

    line = refused(site, "--data", tmp_path, "--tls-cert", nonsense, "--tls-key", nonsense)

    assert str(nonsense) in line
    assert "no certificate chain" in line
