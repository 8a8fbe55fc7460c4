"""Builds one environment: a process of its own, so that it can be killed whole.

Runs as ``python -I -S builder.py``, takes its order as JSON on stdin, says what it does as lines of
JSON on stdout, and imports the standard library only.

Theory. For each key there is a lock file beside the environment's folder. Who builds or removes
holds it exclusively, who uses the environment holds it shared; the kernel lets go of it when the
last process that has it is gone, however that came about. The environment is made in a folder named
`.partial-KEY-…` and renamed when it is whole: so `KEY` is whole or not there. Everything below the
builder dies with it, and what it began is removed by it, or by the next who holds the lock.

After a power failure the disk may have the name without the contents. So the builder syncs after
it has said `ready`, and then leaves a mark; what has no mark counts until the next boot only.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MANIFEST = "environment.json"
SYNCED = "synced"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LAST_LINES_MAX = 20
_PHASES = (("Resolved ", "download"), ("Prepared ", "install"), ("Installed ", "install"))
_CROSS = "\N{MULTIPLICATION SIGN}"
_WAYS_OUT = (
    (
        "No solution found",
        " Ask for what there is, or have this worker look elsewhere too: --index-url, --find-links",
    ),
    (
        "Hash mismatch",
        ". If what is there now is right, make the lock anew: uv pip compile --generate-hashes",
    ),
)
"""What a person can do, by a part of uv's words."""
_WORDS = re.compile(r"^\W*(?:(?:error|cause):\s*)?")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(Exception):
    """The environment cannot be built; with the last lines of the program that said so."""

    def __init__(self, reason: str, lines: "list[str] | None" = None) -> None:
        super().__init__(reason)
        self.lines = lines or []


class _StoppedError(Exception):
    """We were told to stop."""


def main() -> int:
    """Build what stdin asks for; 0 when it is there, whoever built it."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _on_stop)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    order: dict[str, object] = json.loads(sys.stdin.buffer.readline())
    if os.getppid() != order["daemon_pid"]:
        return 1  # It died before we could ask to hear of it.
    builder = Builder(order)
    try:
        builder.run()
    except _StoppedError:
        return 1
    except BuildError as error:
        _say({"failed": str(error), "lines": error.lines[-LAST_LINES_MAX:]})
        return 1
    except OSError as error:
        _say({"failed": _text_of(error), "lines": []})
        return 1
    finally:
        # From here on nothing may interrupt what cleans up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        builder.clean_up()
    return 0


class Builder:
    """One environment on its way."""

    def __init__(self, order: "dict[str, object]") -> None:
        self.order = order
        self.root, self.key = str(order["root"]), str(order["key"])
        self.folder = f"{self.root}/{self.key}"
        self.partial = f"{self.root}/.partial-{self.key}-{secrets.token_hex(4)}"
        self.prctl = ctypes.CDLL(None).prctl
        self.has_lock = False

    def run(self) -> None:
        """Wait for the lock, then build unless another one has."""
        lock = self.take_lock()
        if lock is None:
            _say({"ready": True, "is_new": False})
            return
        self.has_lock = True
        self.remove_partial()
        if os.path.lexists(self.folder):
            discard(self.root, self.folder)
        started = time.monotonic()
        os.mkdir(self.partial, 0o700)  # noqa: PTH102 - no pathlib here
        self.make()
        manifest = dict(self.order["manifest"])  # type: ignore[call-overload]  # as the daemon wrote it
        size = size_of(self.partial)
        manifest |= {
            "key": self.key,
            "boot_id": boot_id(),
            "built_at": time.time(),
            "build_s": round(time.monotonic() - started, 3),
            "size_bytes": size,
        }
        with open(f"{self.partial}/{MANIFEST}", "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(manifest, file)
        os.rename(self.partial, self.folder)  # noqa: PTH104 - no pathlib here
        # Users may have it from now on; nobody may remove it before it is synced.
        fcntl.flock(lock, fcntl.LOCK_SH)
        _say({"ready": True, "is_new": True, "size_bytes": size})
        self.sync()

    def take_lock(self) -> "int | None":
        """Return the lock; None once the environment is there."""
        is_told = False
        while True:
            with contextlib.suppress(BlockingIOError):
                lock = open_lock(self.root, self.key)
                if not is_whole(self.folder):
                    return lock
                os.close(lock)
                return None
            if not is_told:
                is_told = True
                _say({"phase": "wait"})
            # Shared: so we go on when it is built, though those who use it never let go.
            lock = open_lock(self.root, self.key, mode=fcntl.LOCK_SH, is_patient=True)
            is_there = is_whole(self.folder)
            os.close(lock)
            if is_there:
                return None
            # Several that waited must not keep each other from building for ever.
            time.sleep(secrets.randbelow(20) / 1000)

    def make(self) -> None:
        """Make the environment in the partial folder."""
        uv, python = str(self.order["uv"]), str(self.order["python"])
        _say({"phase": "resolve", "text": "making the environment"})
        self.call(
            [uv, "venv", "--quiet", "--relocatable", "--no-project", "--no-python-downloads",
             "--python", python, self.partial]
        )  # fmt: skip
        self.write_pth()
        requirements = str(self.order["requirements"])
        if not requirements:
            return
        path = f"{self.partial}/requirements.txt"
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib here
            file.write(requirements)
        extra = [str(each) for each in self.order["arguments"]]  # type: ignore[attr-defined]  # a list
        self.call(
            [uv, "pip", "install", "--no-progress", "--color", "never", "--strict",
             "--python", f"{self.partial}/bin/python", "-r", path, *extra]
        )  # fmt: skip

    def write_pth(self) -> None:
        """Have our own code found where the daemon says at each start of a job."""
        for name in os.listdir(f"{self.partial}/lib"):  # noqa: PTH208 - no pathlib here
            if name.startswith("python"):
                path = f"{self.partial}/lib/{name}/site-packages/lineshaft.pth"
                with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
                    file.write(str(self.order["pth"]))

    def call(self, program: "list[str]") -> None:
        """Run a program, pass on what it says, and raise what it fails with."""
        lines: list[str] = []
        with subprocess.Popen(  # noqa: S603 - uv, as the worker found it
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.partial,
            process_group=0,
            preexec_fn=lambda: self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509 - one thread
        ) as child:
            assert child.stdout is not None, "it was asked for"
            try:
                for raw in child.stdout:
                    line = _ANSI.sub("", raw.decode(errors="replace")).rstrip()
                    if line:
                        lines = [*lines[-100:], line]
                        _say(_progress(line))
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                raise
        if child.returncode != 0:
            what = f"uv {program[1]} ended with status {child.returncode}"
            raise BuildError(_reason(lines) or what, lines)

    def sync(self) -> None:
        """Have it on the disk, then say so beside it."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None).syncfs(folder) == 0:
                os.close(os.open(f"{self.folder}/{SYNCED}", os.O_WRONLY | os.O_CREAT, 0o600))
        finally:
            os.close(folder)

    def clean_up(self) -> None:
        """End what is below us, and remove what is not whole."""
        while children := _children():
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.wait()
        if self.has_lock:
            self.remove_partial()

    def remove_partial(self) -> None:
        """Remove what was begun for this key: only who holds the lock may."""
        for name in os.listdir(self.root):  # noqa: PTH208 - no pathlib here
            if name.startswith(f".partial-{self.key}-"):
                shutil.rmtree(f"{self.root}/{name}", ignore_errors=True)


def open_lock(root: str, key: str, *, mode: int = fcntl.LOCK_EX, is_patient: bool = False) -> int:
    """Take the lock of a key; returns its descriptor.

    Args:
        root: Folder of all environments.
        key: Of the environment.
        mode: LOCK_EX to build or remove, LOCK_SH to use.
        is_patient: Wait for whoever has it.

    Raises:
        BlockingIOError: Another one has it, and we should not wait.
        OSError: The folder cannot be used.
    """
    path = f"{root}/{key}.lock"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, mode if is_patient else mode | fcntl.LOCK_NB)
            # Who removes an environment removes its lock file too: this may be the old one.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(lock).st_ino == os.stat(path).st_ino:  # noqa: PTH116 - no pathlib here
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def is_whole(folder: str) -> bool:
    """Say whether an environment is there and can be used."""
    try:
        with open(f"{folder}/{MANIFEST}", encoding="utf-8") as file:  # noqa: PTH123
            manifest = json.load(file)
    except (OSError, ValueError):
        return False
    is_kept = os.path.exists(f"{folder}/{SYNCED}") or manifest.get("boot_id") == boot_id()  # noqa: PTH110
    # Its interpreter is a link to one of the machine, which may have been removed.
    return is_kept and os.path.exists(f"{folder}/bin/python")  # noqa: PTH110


def discard(root: str, folder: str) -> None:
    """Remove an environment so that none sees half of it; only who holds its lock may."""
    trash = f"{root}/.trash-{secrets.token_hex(8)}"
    os.rename(folder, trash)  # noqa: PTH104 - no pathlib here
    shutil.rmtree(trash, ignore_errors=True)


def size_of(folder: str) -> int:
    """Return how much room the files of a folder take, each counted in full."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{path}/{name}").st_blocks * 512
    return total


def boot_id() -> str:
    """Return what the kernel calls the time since it was booted."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        return file.read().strip()


def _children() -> "list[int]":
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
            return [int(each) for each in file.read().split()]
    except OSError:
        return []


def _progress(line: str) -> "dict[str, object]":
    says: dict[str, object] = {"text": line[:500]}
    for start, phase in _PHASES:
        if line.startswith(start):
            says["phase"] = phase
    return says


def _reason(lines: "list[str]") -> str:
    """Find the sentence that says why uv gave up."""
    for index, line in enumerate(lines):
        if line.startswith("error:") or line.lstrip().startswith(_CROSS):
            whole = [_WORDS.sub("", each) for each in lines[index:]]
            text = ": ".join(each for each in whole if each)[:2000]
            return text + next((way for part, way in _WAYS_OUT if part in text), "")
    return ""


def _text_of(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of the environments is full ({error.strerror})"
    return f"{error.filename or 'a file'}: {error.strerror}"


def _on_stop(_number: int, _frame: "FrameType | None") -> "NoReturn":
    raise _StoppedError


def _say(what: "dict[str, object]") -> None:
    try:
        os.write(1, json.dumps(what).encode() + b"\n")
    except BrokenPipeError:
        raise _StoppedError from None


if __name__ == "__main__":
    sys.exit(main())
