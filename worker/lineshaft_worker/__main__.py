"""The worker daemon's command line: ``lineshaft-worker``."""

import argparse
import asyncio
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import WorkerId
from lineshaft_protocol.stream_frames import FRAME_BYTES_MAX
from lineshaft_protocol.version import __version__
from lineshaft_protocol.versions import Versions
from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.dialing import dial
from lineshaft_runtime.locating import Whereabouts
from lineshaft_runtime.logs import configure_logging
from lineshaft_runtime.loops import run
from lineshaft_runtime.sizes import parse_size
from lineshaft_runtime.stopping import stop_on_signals
from lineshaft_worker.core.identity import Identity
from lineshaft_worker.daemon.machine_room import MachineRoom, own_python
from lineshaft_worker.daemon.meeting import MeetingPort, address_towards
from lineshaft_worker.daemon.shell import WorkerShell
from lineshaft_worker.daemon.uplink import Link
from lineshaft_worker.devices.cgroup import SystemFiles
from lineshaft_worker.devices.inventory import PYTHONS_S
from lineshaft_worker.devices.pythons import python_envs
from lineshaft_worker.devices.selection import Restrictions
from lineshaft_worker.environments.interpreters import find_interpreters
from lineshaft_worker.environments.provision import Environments, Settings, find_uv
from lineshaft_worker.environments.sources import ALLOWED, Sources
from lineshaft_worker.execution.cgroups import Cgroups, is_usable
from lineshaft_worker.execution.limits import JobLimits

EXIT_CANNOT_START = 2
CONTROL_FRAME_BYTES = 4 * 1024 * 1024
CHUNK_FRAME_BYTES = FRAME_BYTES_MAX + 1024
GIB = 1024**3


def parser() -> argparse.ArgumentParser:
    """All flags."""
    flags = argparse.ArgumentParser(
        allow_abbrev=False, prog="lineshaft-worker", description=__doc__
    )
    flags.add_argument(
        "url",
        nargs="?",
        help="the coordinator; default LINESHAFT_URL, or local; -: a line of stdin",
    )
    flags.add_argument("--token", help="default LINESHAFT_TOKEN, LINESHAFT_TOKEN_FILE, or local")
    flags.add_argument("--name", help="the worker's id; default the host's name")
    flags.add_argument("--slots", type=int, help="attempts at once; default one for each CPU")
    flags.add_argument("--cpus", type=float, help="offer no more CPUs than this")
    flags.add_argument("--memory", help="offer no more memory than this, as 8GiB")
    flags.add_argument("--gpus", help="a number, or indexes and UUIDs: 2, or 0,GPU-8f3a")
    flags.add_argument(
        "--address", help="where other workers reach this machine; default the way to URL"
    )
    flags.add_argument("--tags", default="", help="comma-separated, for jobs that ask for them")
    flags.add_argument("--state", type=Path, help="folder of runners; default HOME/workers/NAME")
    flags.add_argument(
        "--forget-state",
        action="store_true",
        help="remove the folder of runners when leaving in order, as on a machine that is lent",
    )
    flags.add_argument("--cache", default="20GiB", help="room for payloads kept for later jobs")
    flags.add_argument("--grace", type=float, default=30.0, help="seconds from SIGTERM to SIGKILL")
    flags.add_argument(
        "--drain", type=float, default=600.0, help="seconds to finish what runs when told to stop"
    )
    _environment_flags(flags)
    flags.add_argument(
        "--cgroup",
        default="auto",
        help="folder of cgroup v2 in which each runner gets a group; default auto: where one was "
        "delegated to us, as by Delegate=yes of systemd; off: none",
    )
    flags.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what a process of a job may have at most: files=4096, processes=500 (of this "
        "user, with all else it runs), file-size=20GiB; repeatable",
    )
    flags.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    flags.add_argument("--log-style", default="auto", choices=["auto", "json", "human"])
    return flags


def _environment_flags(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument_group("environments of jobs").add_argument
    add("--environments", type=Path, help="folder; default HOME/environments, shared by workers")
    add("--environments-size", default="100GiB", help="remove the least used above this")
    add("--environments-free", default="2GiB", help="build nothing if less is free on the disk")
    add("--build-timeout", type=float, default=3600.0, help="longest build, in seconds")
    add("--index-url", help="packages come from here; default what uv is configured to use")
    add("--find-links", action="append", default=[], help="page or folder of packages; repeatable")
    add(
        "--allow-index",
        action="append",
        help="beginning of addresses that jobs may name, or * for any; repeatable; "
        f"default {' '.join(ALLOWED)}",
    )


def environments_of(chosen: argparse.Namespace, home: Path, room: MachineRoom) -> Environments:
    """What makes environments here, as the operator set it."""
    allowed = ALLOWED if chosen.allow_index is None else tuple(chosen.allow_index)
    settings = Settings(
        root=chosen.environments or home / "environments",
        sources=Sources(
            index_url=chosen.index_url, find_links=tuple(chosen.find_links), allowed=allowed
        ),
        size_bytes_max=parse_size(chosen.environments_size),
        free_bytes_min=parse_size(chosen.environments_free),
        build_s_max=chosen.build_timeout,
    )
    found = find_interpreters(room.offer.machine.python_envs, Path.home())
    return Environments(settings, found, find_uv=find_uv)


def restrictions_of(chosen: argparse.Namespace) -> Restrictions:
    """What the operator lets jobs have of this machine."""
    gpus: int | list[int | str] | None = None
    if chosen.gpus is not None:
        text = str(chosen.gpus)
        gpus = int(text) if text.isdecimal() else [_device(part) for part in text.split(",")]
    return Restrictions(
        cpus=chosen.cpus,
        memory_bytes=parse_size(chosen.memory) if chosen.memory else None,
        gpus=gpus,
        tags=tuple(tag for tag in str(chosen.tags).split(",") if tag),
    )


def cgroups_of(chosen: str) -> Cgroups | None:
    """Where runners get groups, if the operator lets them and the kernel can.

    Raises:
        ValueError: The folder that was named cannot be used.
    """
    if chosen == "off":
        return None
    if chosen == "auto":
        return Cgroups.find(SystemFiles(), is_root=os.geteuid() == 0)
    if not (Path(chosen) / "cgroup.procs").exists() or not is_usable(Path(chosen)):
        raise ValueError(f"--cgroup {chosen}: no groups of cgroup v2 can be made there")
    return Cgroups(Path(chosen))


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status."""
    chosen = parser().parse_args(arguments)
    configure_logging(chosen.log_level, chosen.log_style)
    try:
        # Before the URL is told, as some interpreters must be started: a tenth of a second.
        pythons = python_envs(os.environ, budget_s=PYTHONS_S)
        if chosen.url == "-":
            chosen.url = _told_url()
        run(_work(chosen, pythons))
    except (LineshaftError, OSError, ValueError) as error:
        sys.stderr.write(f"lineshaft-worker: {error}\n")
        return EXIT_CANNOT_START
    return 0


def _told_url() -> str:
    """Wait for whoever starts us beside a coordinator: our code is loaded meanwhile.

    Raises:
        ValueError: Standard input ended before.
    """
    url = sys.stdin.readline().strip()
    if not url:
        raise ValueError("url -: standard input ended without the coordinator's URL")
    return url


async def _work(chosen: argparse.Namespace, pythons: tuple[str, ...]) -> None:
    where = Whereabouts.find(chosen.url, chosen.token, environ=os.environ)
    name = chosen.name or re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "worker"
    state: Path = chosen.state or where.home / "workers" / name
    address = chosen.address or await asyncio.to_thread(address_towards, where.url)
    room = MachineRoom(
        restrictions_of(chosen),
        slots=chosen.slots,
        meeting=MeetingPort(address),
        cgroups=cgroups_of(str(chosen.cgroup)),
        limits=JobLimits.parse(chosen.limit),
        pythons=pythons,
    )
    environments = environments_of(chosen, where.home, room)
    identity = Identity(
        worker_id=WorkerId(name),
        incarnation=secrets.token_hex(8),
        capabilities=room.offer.capabilities,
        tags=room.offer.tags,
        pythons=environments.pythons,
        versions=Versions(lineshaft=__version__, python=own_python()),
    )
    limits = Limits(
        text_bytes=CONTROL_FRAME_BYTES,
        binary_bytes=CHUNK_FRAME_BYTES,
        ping_interval_s=10.0,
        ping_timeout_s=20.0,
    )

    async def connect(link: Link) -> Connection:
        # Looked up each time: the coordinator may have moved to another port.
        now = Whereabouts.find(chosen.url, chosen.token, environ=os.environ)
        ssl = await now.trust()
        return await dial(f"{now.url}/v1/worker", link, token=now.secret, ssl=ssl, limits=limits)

    shell = WorkerShell(
        identity=identity,
        room=room,
        dial=connect,
        state=state,
        cache_bytes_max=parse_size(chosen.cache),
        grace_s=chosen.grace,
        drain_s=chosen.drain,
        environments=environments,
    )
    with stop_on_signals() as stopping:
        await shell.run(stopping)
    if chosen.forget_state:
        # Nothing runs any more, and no daemon will come that could take anything over.
        await asyncio.to_thread(shutil.rmtree, state, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
