"""The runner: takes attempts one after the other, executes them, says how they ended."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import CoroutineType
from typing import cast

from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime import spool
from lineshaft_runtime.packing import CannotPackError, PackingError, pack, unpack
from lineshaft_worker.runner.codes import CodeShelf
from lineshaft_worker.runner.failures import FailureError, describe, exit_status, print_failure
from lineshaft_worker.runner.files import (
    PROCESSES_VARIABLE,
    SHIM_PID,
    STREAMS,
    Current,
    attempt_file,
    is_handed_over,
)
from lineshaft_worker.runner.frames import Answer, Done, Execute, Spawn
from lineshaft_worker.runner.link import Function, Link
from lineshaft_worker.runner.local_imports import LocalImports
from lineshaft_worker.runner.records import CurrentAttempt
from lineshaft_worker.runner.results import BytesLike, load, packed, store

MEASURED_S_MIN = 0.02
"""Shorter attempts are not asked for their memory: asking costs more than they do."""
FORK_S_MIN = 0.0005
"""What takes less cannot have forked twice, so nobody looks for grandchildren, and has no child
that saved when it was asked to pause."""


class Runner:
    """Executes attempts of one worker daemon, in this process's main thread."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._is_handed_over = partial(is_handed_over, folder)
        self._pid = os.getpid()
        self._shim_children = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
        self._current = Current(folder)
        self._shim = _shim_of(folder)
        self._lease_s: float | None = None
        """That of the last attempt: the shim looks at the clock often enough for it."""
        self.imports = LocalImports(folder)
        self._link = Link(folder, CodeShelf[Function]())
        self._streams = [
            os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in STREAMS
        ]
        self.spool = spool.SpoolWriter(f"{folder}/{STREAMS[0]}")
        self._ends = self._sizes()
        self._requests = 0
        self._requesting = threading.Lock()

    def run(self) -> int:
        """Serve until the daemon is gone, or a pipeline job has ended."""
        if not self._link.dial():
            sys.stderr.write("the worker daemon does not answer\n")
            return 3
        while (turn := self._link.next()) is not None:
            order, function = turn
            self._execute(order, function)
            if order.kind == "pipeline":
                break
        self._link.leave()
        return 0

    def _execute(self, order: Execute, function: Function | None) -> None:
        started_wall, started = time.time(), time.monotonic()
        begins = self._ends
        record = CurrentAttempt(
            order.ticket, order.job_id, order.attempt, order.kind, order.name[:200], order.run_s,
            order.memory_bytes, started_wall, started, begins,
        )  # fmt: skip
        self._current.begin(record.encode(), order.lease_s or 0.0, order.grace_s or 0.0)
        self._tell_lease(order.lease_s or math.inf)
        attempt = _Attempt(order, function, self._folder, self)
        status, failure = "ok", None
        result: tuple[bytes | None, int, str] = (None, 0, "")
        try:
            result = self._result_of(attempt, order.ticket)
        except FailureError as error:
            status, failure = "failed", describe(error.error, error.cause, self.spool.redactor)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            if order.kind == "pipeline":
                print_failure(error)
            status, failure = "failed", describe(error, "exception", self.spool.redactor)
        if os.getpid() != self._pid:
            # A child that user code forked came back here: it is not the runner.
            os._exit(0 if status == "ok" else 1)
        run_s = time.monotonic() - started
        if status == "ok" and _may_have_paused(run_s) and spool.current().has_paused:
            # What it returns is not its result: it is going to go on.
            status, result = "paused", (None, 0, "")
        spool.attach(None)
        _flush()
        self._ends = self._sizes()
        self._link.done(
            Done(
                order.ticket,
                order.job_id,
                order.attempt,
                order.kind,
                status,
                *result,
                failure,
                started_wall,
                run_s,
                _peak_bytes() if run_s >= MEASURED_S_MIN else None,
                begins,
                self._ends,
                self._has_children(run_s),
            )
        )
        self._current.end()

    def _result_of(self, attempt: "_Attempt", ticket: int) -> tuple[bytes | None, int, str]:
        try:
            self._link.enter_user_code(ticket)
            return self._store(attempt.execute(), ticket)
        finally:
            self._link.leave_user_code()

    def _tell_lease(self, lease_s: float) -> None:
        """Have the shim look again, if it may sleep for longer than this."""
        is_shorter = self._lease_s is None or lease_s < self._lease_s
        self._lease_s = lease_s
        if is_shorter and self._shim:
            os.kill(self._shim, signal.SIGUSR1)

    def _store(self, packed: list[BytesLike], ticket: int) -> tuple[bytes | None, int, str]:
        path = attempt_file(self._folder, ticket, "result")
        try:
            return store(packed, path, is_sync_begun=self._is_handed_over)
        except OSError as error:  # The disk is full: let it go, there is less room than before.
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - no pathlib here
            raise FailureError("result", error) from error

    def spawn(self, ticket: int, target: str, payload: list[BytesLike]) -> Answer:
        """Have a part of a plan run by another worker, and wait for its end."""
        with self._requesting:
            self._requests += 1
            request = self._requests
        inline, _, _ = store(payload, attempt_file(self._folder, ticket, f"child-{request}"))
        return self._link.ask(Spawn(ticket, request, target, inline))

    def _sizes(self) -> list[int]:
        # The descriptors are for this alone. A stat says more, and takes four times as long.
        return [os.lseek(descriptor, 0, os.SEEK_END) for descriptor in self._streams]

    def _has_children(self, run_s: float) -> bool:
        """Say whether processes are left that the attempt started."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            pass
        else:
            return True
        if run_s < FORK_S_MIN:
            return False
        try:
            # Those who lost their parent are now the shim's.
            with open(self._shim_children, "rb") as file:  # noqa: PTH123 - 20 µs faster than pathlib
                return len(file.read().split()) > 1
        except OSError:  # A kernel without this file; the sweep at the runner's end finds them.
            return False


class _Attempt:
    """One attempt, from its payload to packed buffers."""

    def __init__(
        self, order: Execute, function: Function | None, folder: str, runner: Runner
    ) -> None:
        self._order = order
        self._function = function
        self._folder = folder
        self._runner = runner
        self._set: list[object] = []

    def execute(self) -> list[BytesLike]:
        match self._order.kind:
            case "function":
                value = self._call_function()
            case "plan":
                return self._execute_plan()
            case "stream":
                return self._serve_stream()
            case "pipeline":
                return self._run_pipeline()
            case kind:
                raise FailureError("start", ValueError(f"this worker cannot run a {kind!r}"))
        return _packed(value)

    def _call_function(self) -> object:
        self._attach()
        try:
            assert self._function is not None, "the daemon knows what is on the shelf"
            loaded = self._runner.imports.ready(self._function.load())
            function = cast("Callable[..., object]", loaded)
            args, kwargs = cast(
                "tuple[tuple[object, ...], dict[str, object]]", unpack(load(self._order.payload))
            )
        except BaseException as error:
            raise FailureError("unpickle", error) from error
        try:
            return _awaited(function(*args, **kwargs))
        except SystemExit as leaving:
            if exit_status(leaving) == 0 and spool.current().has_paused:
                return None
            raise

    def _execute_plan(self) -> list[BytesLike]:
        # Plans pull in the executor; runners of functions do without it.
        from lineshaft_runtime.plans.work import execute_payload  # noqa: PLC0415
        from lineshaft_worker.runner.remote import RemoteParts  # noqa: PLC0415

        self._attach()
        self._bring_files()
        remote = RemoteParts(self._runner.spawn, self._order.ticket)
        try:
            return execute_payload(load(self._order.payload), remote=remote)
        except PackingError as error:
            raise FailureError("unpickle", error) from error
        except CannotPackError as error:
            raise FailureError("result", error) from error

    def _serve_stream(self) -> list[BytesLike]:
        from lineshaft_runtime.plans.streaming import open_stream  # noqa: PLC0415 - as for plans
        from lineshaft_worker.runner.remote import RemoteParts  # noqa: PLC0415 - likewise
        from lineshaft_worker.runner.stream_end import StreamRunner  # noqa: PLC0415 - likewise
        from lineshaft_worker.runner.stream_pipe import StreamPipe  # noqa: PLC0415 - likewise

        self._attach()
        self._bring_files()
        order = self._order
        try:
            plan = open_stream(
                load(order.payload), remote=RemoteParts(self._runner.spawn, order.ticket)
            )
        except LineshaftError as error:
            raise FailureError("unpickle", error) from error
        pipe = StreamPipe(self._folder, order.job_id, order.attempt)
        try:
            StreamRunner(order.job_id, plan, pipe).serve()
        finally:
            pipe.close()
        try:
            return pack(plan.states, name="states")
        except CannotPackError as error:
            raise FailureError("result", error) from error

    def _bring_files(self) -> None:
        """Make importable what a plan brought of its user's own modules, and only that."""
        try:
            self._runner.imports.ready(None if self._function is None else self._function.load())
        except BaseException as error:
            raise FailureError("unpickle", error) from error

    def _run_pipeline(self) -> list[BytesLike]:
        from lineshaft_runtime.bundles import decode_bundle, write_bundle  # noqa: PLC0415
        from lineshaft_worker.runner.entry_points import run_entry_point  # noqa: PLC0415

        try:
            bundle = decode_bundle(load(self._order.payload))
            params = unpack(bundle.params)
            work = Path(attempt_file(self._folder, self._order.ticket, "work"))
            blobs = Path(attempt_file(self._folder, self._order.ticket, "blobs"))
            write_bundle(bundle, work, blobs)
        except OSError as error:
            raise FailureError("start", error) from error
        except LineshaftError as error:
            raise FailureError("unpickle", error) from error
        packed_input = bundle.input_data

        def load_input() -> object:
            return None if packed_input is None else unpack(bytearray(packed_input))

        self._attach(params, load_input)

        def run() -> list[BytesLike]:
            returned: object = None
            try:
                returned = run_entry_point(bundle, work, params=params, load_input=load_input)
                returned = _awaited(returned)
            except SystemExit as leaving:
                if exit_status(leaving) != 0:
                    raise
            _wait_for_threads()
            return _packed(self._set[-1] if self._set else returned)

        count = int(os.environ.get(PROCESSES_VARIABLE, "0"))
        return self._run_ranks(count, run) if count else run()

    def _run_ranks(self, count: int, run: Callable[[], list[BytesLike]]) -> list[BytesLike]:
        from lineshaft_worker.runner.ranks import Ranks  # noqa: PLC0415 - few jobs have several

        prefix = attempt_file(self._folder, self._order.ticket, "")
        try:
            return Ranks(count, prefix, run, self._runner.spool.redactor).execute()
        except OSError as error:
            raise FailureError("start", error) from error

    def _attach(
        self, params: object = None, load_input: Callable[[], object] | None = None
    ) -> None:
        prefix = attempt_file(self._folder, self._order.ticket, "")
        # For processes that the job starts: ranks, or a script that it calls.
        os.environ[spool.FILES_VARIABLE] = prefix
        context = spool.JobContext(
            self._runner.spool,
            params=cast("Mapping[str, object]", params) if isinstance(params, Mapping) else {},
            input_data=load_input,
            set_result=self._set.append,
            files=spool.files_of(prefix),
            blobs=f"{prefix}blobs",
        )
        context.saved_file = f"{prefix}saved"
        spool.attach(context)


def _may_have_paused(run_s: float) -> bool:
    """Say whether the end of an attempt may be a pause, which only the disk knows for sure."""
    return run_s >= FORK_S_MIN or spool.current().is_pause_seen


def _shim_of(folder: str) -> int:
    """Return the shim's process, which is our parent; 0 if there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"{folder}/{SHIM_PID}", "rb") as file:  # noqa: PTH123 - no pathlib here
            pid = int(file.read().split()[0])
        return pid if pid == os.getppid() else 0
    return 0


def _packed(value: object) -> list[BytesLike]:
    try:
        return packed(value)
    except CannotPackError as error:
        raise FailureError("result", error) from error


def _awaited(value: object) -> object:
    """Run a coroutine to its end; anything else is returned as it is."""
    if not isinstance(value, CoroutineType):
        return value
    import asyncio  # noqa: PLC0415 - 40 ms that few functions need

    return asyncio.run(cast("CoroutineType[object, object, object]", value))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - twice for each call, and a suppress takes longer than the flush
            stream.flush()
        except Exception:  # noqa: BLE001, S110 - user code may have closed or replaced it
            pass


def _peak_bytes() -> int | None:
    """Return the most memory this process has had since the last call."""
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - short-lived, no pathlib
            for line in file:
                if line.startswith(b"VmHWM:"):
                    peak_bytes = int(line.split()[1]) * 1024
                    break
            else:
                return None
        with open("/proc/self/clear_refs", "wb") as file:  # noqa: PTH123 - as above
            file.write(b"5")
    except OSError:
        return None
    return peak_bytes


def _wait_for_threads() -> None:
    """Wait for the threads of a script, as Python does at its end; they may set its result."""
    # Those of a pool that nobody shut down wait for work until they are told that there is none.
    pools = sys.modules.get("concurrent.futures.thread")
    if pools is not None:
        pools._python_exit()  # noqa: SLF001 - what Python itself calls first
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
