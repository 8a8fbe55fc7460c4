"""What `lineshaft doctor` looks at."""

import ctypes
import json
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from lineshaft.cli.asking import ask, whereabouts
from lineshaft.cli.daemons import COORDINATOR_MODULES, DEMO_MODULES, WORKER_MODULES
from lineshaft.cli.exits import exit_code_of, one_line
from lineshaft.cli.output import GIB
from lineshaft_protocol.errors import LineshaftError

PYTHON_MIN = (3, 11)
TIMEX_BYTES = 512
"""More than the structure has on any machine; zeros ask and change nothing."""
TIME_ERROR = 5
DISK_MIN_BYTES = 1 * GIB
CERTIFICATE_DAYS = 30
"""Of a certificate that is valid for less the coordinator warns, too."""
DISK_LOW_BYTES = 10 * GIB
SQLITE_MIN = (3, 35, 0)
FIXED_SQLITE = (3, 51, 3)
PRIVATE = ("token", "login.json", "coordinator.json", "data/tokens.json", "data/tls/key.pem")


class Finding(NamedTuple):
    """What one check found."""

    what: str
    verdict: Literal["ok", "note", "broken"]
    text: str


def examine(url: str | None, token: str | None) -> list[Finding]:
    """Look at everything; what cannot be looked at is a finding, too."""
    from lineshaft_runtime.locating import home_of  # noqa: PLC0415 - takes long

    home = home_of(os.environ).expanduser()
    checks: list[Callable[[], list[Finding]]] = [
        lambda: [_python()],
        _extras,
        lambda: [_coordinator(url, token)],
        lambda: _certificate(url, token),
        lambda: _private_files(home),
        lambda: [_clock()],
        lambda: [_sqlite()],
        lambda: [_gpus()],
        lambda: [_cgroup()],
        lambda: _disks(home),
    ]
    return [finding for check in checks for finding in check()]


def _python() -> Finding:
    text = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    return Finding("Python", "ok" if sys.version_info >= PYTHON_MIN else "broken", text)


def _extras() -> list[Finding]:
    extras = {
        "coordinator": COORDINATOR_MODULES,
        "worker": WORKER_MODULES,
        "demo": DEMO_MODULES,
        "fast": ("uvloop",),
    }
    found: list[Finding] = []
    for extra, modules in extras.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            text = f"not installed (no {', '.join(missing)}); pip install 'lineshaft[{extra}]'"
            found.append(Finding(f"extra {extra}", "note", text))
        else:
            found.append(Finding(f"extra {extra}", "ok", "installed"))
    return found


def _coordinator(url: str | None, token: str | None) -> Finding:
    what = "coordinator"
    try:
        info = ask(url, token, lambda client: client.info())
        place = whereabouts(url, token).url
    except LineshaftError as error:
        # On a machine that is to become a worker or head node, none is known yet.
        is_unknown = type(error).__name__ == "NoCoordinatorError"
        return Finding(what, "note" if is_unknown else "broken", one_line(error))
    except OSError as error:
        return Finding(what, "broken", f"{one_line(error)} (exit code {exit_code_of(error):d})")
    match info:
        case {"object_store": {"problem": str(problem)}}:
            return Finding(what, "note", f"{place} answers; {problem}")
        case {"lineshaft": str(version), "workers": int(count)}:
            return Finding(what, "ok", f"{place} answers: lineshaft {version}, {count} workers")
        case _:
            return Finding(what, "ok", f"{place} answers")


def _certificate(url: str | None, token: str | None) -> list[Finding]:
    """Ask whom we would dial for the day; who cannot be dialled is a finding already."""
    from lineshaft.cli.readiness import certificate_expires_at  # noqa: PLC0415 - takes long

    what = "certificate"
    try:
        expires = certificate_expires_at(whereabouts(url, token).url)
    except (LineshaftError, OSError):
        return []
    except ValueError as error:
        return [Finding(what, "note", str(error))]
    if expires is None:
        return []
    left, day = expires - datetime.now(UTC), expires.date().isoformat()
    if left <= timedelta(0):
        text = f"expired on {day}: nobody can connect; the coordinator needs a new one"
        return [Finding(what, "broken", text)]
    text = f"valid until {day}, {left.days} days"
    return [Finding(what, "note" if left.days < CERTIFICATE_DAYS else "ok", text)]


def _private_files(home: Path) -> list[Finding]:
    found: list[Finding] = []
    for name in PRIVATE:
        path = home / name
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append(Finding("files", "broken", one_line(error)))
            continue
        if mode & 0o077:
            text = f"{path} can be read by others (mode {mode:o}); chmod 600 {path}"
            found.append(Finding("files", "broken", text))
    return found or [Finding("files", "ok", f"secrets in {home} are readable by you alone")]


def _clock() -> Finding:
    """Ask the kernel; leases use another clock, but people compare times in logs."""
    timex = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        state = int(ctypes.CDLL(None).adjtimex(timex))
    except (AttributeError, OSError):
        return Finding("clock", "note", "this system does not say whether it is synchronised")
    if state in (TIME_ERROR, -1):
        return Finding("clock", "note", "not synchronised; times of different machines may differ")
    return Finding("clock", "ok", "synchronised")


def _sqlite() -> Finding:
    version = sqlite3.sqlite_version_info
    text = sqlite3.sqlite_version
    if version < SQLITE_MIN:
        return Finding("SQLite", "broken", f"{text}; a coordinator needs 3.35")
    if version < FIXED_SQLITE:
        text += "; older ones can damage a database with two writers, so there is only one"
    return Finding("SQLite", "ok", text)


def _gpus() -> Finding:
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return Finding("GPUs", "note", "not looked for: nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
        driver = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError as error:
        return Finding("GPUs", "note", f"none: {error}")
    return Finding("GPUs", "ok", f"{count}, driver {driver}")


def _cgroup() -> Finding:
    what = "isolation"
    mounts = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    mount = next((path for path in mounts if (path / "cgroup.controllers").exists()), None)
    plain = "a worker started here watches the memory of jobs and sweeps their processes itself"
    if mount is None:
        return Finding(what, "note", f"no cgroup v2: {plain}")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        return Finding(what, "note", one_line(error))
    own = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    folder = mount / own
    if os.access(folder / "cgroup.procs", os.W_OK) and os.geteuid() != 0:
        return Finding(
            what, "ok", f"cgroup v2: a worker started here gives runners groups in {folder}"
        )
    text = f"cgroup v2, but {folder} was not delegated to you: {plain} (systemd: Delegate=yes, "
    return Finding(what, "note", text + "DelegateSubgroup=daemon; or lineshaft-worker --cgroup)")


def _disks(home: Path) -> list[Finding]:
    """Look at the disk of HOME, and at that of this machine's coordinator if it is another."""
    found = [_disk(home)]
    try:
        kept = json.loads((home / "coordinator.json").read_text())
        data = Path(kept["data"])
        if data.stat().st_dev != home.stat().st_dev:
            found.append(_disk(data))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # None was started here, or one before it wrote that down; or its folder is not ours.
    return found


def _disk(home: Path) -> Finding:
    folder = home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Finding("disk", "broken", f"{folder} cannot be written; set LINESHAFT_HOME")
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free for {home}"
    if free < DISK_MIN_BYTES:
        return Finding("disk", "broken", text)
    return Finding("disk", "note" if free < DISK_LOW_BYTES else "ok", text)
