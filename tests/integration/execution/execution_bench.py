"""Orders for tests of the execution layer, the reports that came, processes that are left."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import cloudpickle

from lineshaft_runtime.bundles import PipelineBundle, encode_bundle
from lineshaft_runtime.packing import pack_bytes, unpack
from lineshaft_worker.execution.orders import AttemptKey, AttemptOrder
from lineshaft_worker.execution.pool import Execution
from lineshaft_worker.execution.process import MARK
from lineshaft_worker.execution.reports import (
    AttemptEnded,
    AttemptEvents,
    AttemptReturned,
    Failed,
    Failure,
    Report,
    ResultFile,
    Succeeded,
)

PATIENCE_S = 20.0
_Found = TypeVar("_Found")


async def until(condition: Callable[[], _Found | None]) -> _Found:
    """Wait until the condition returns something true, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        # What is waited for happens in other processes, where no event can be set.
        while not (found := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return found


class ExecutionBench:
    """An execution and everything it reported."""

    def __init__(self, state_folder: Path, **options: object) -> None:
        self.state_folder = state_folder
        self.reports: list[Report] = []
        self.execution = Execution(state_folder, report=self.reports.append, **options)  # type: ignore[arg-type]
        self._started = 0

    def call(
        self,
        function: Callable[..., object],
        *args: object,
        lane: int = 0,
        payload: bytes | Path | None = None,
        **order: object,
    ) -> AttemptKey:
        """Start a function attempt and return its key."""
        key = self._key()
        if function.__module__.startswith("tests."):
            cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
        pickled = cloudpickle.dumps(function)
        self.execution.start(
            AttemptOrder(
                key=key,
                kind="function",
                name=getattr(function, "__name__", "function"),
                payload=pack_bytes((args, {})) if payload is None else payload,
                code_id=str(hash(pickled)),
                code=pickled,
                **order,  # type: ignore[arg-type]
            ),
            lane,
        )
        return key

    def run(
        self,
        files: Mapping[str, str],
        entry_point: str,
        *,
        lane: int = 0,
        params: object = None,
        input_data: object = None,
        **order: object,
    ) -> AttemptKey:
        """Start a pipeline attempt and return its key."""
        key = self._key()
        bundle = PipelineBundle(
            tuple((path, text.encode()) for path, text in files.items()),
            (),
            entry_point,
            None if input_data is None else pack_bytes(input_data),
            pack_bytes(params or {}),
        )
        payload = encode_bundle(bundle)
        self.execution.start(
            AttemptOrder(key=key, kind="pipeline", name=entry_point, payload=payload, **order),  # type: ignore[arg-type]
            lane,
        )
        return key

    def plan(self, payload: bytes, *, lane: int = 0) -> AttemptKey:
        """Start a plan attempt and return its key."""
        key = self._key()
        self.execution.start(AttemptOrder(key=key, kind="plan", name="plan", payload=payload), lane)
        return key

    def of(self, kind: type[_Found], key: AttemptKey | None = None) -> list[_Found]:
        """Return the reports of a kind, of one attempt or of all."""
        found = [report for report in self.reports if isinstance(report, kind)]
        return [report for report in found if key is None or report.key == key]  # type: ignore[attr-defined]

    async def ended(self, key: AttemptKey) -> AttemptEnded:
        """Wait for an attempt's end."""
        return (await until(lambda: self.of(AttemptEnded, key)))[0]

    async def returned(self, key: AttemptKey) -> AttemptReturned:
        """Wait for an attempt to be given back."""
        return (await until(lambda: self.of(AttemptReturned, key)))[0]

    async def value(self, key: AttemptKey) -> object:
        """Wait for an attempt and return its value."""
        return value_of(await self.ended(key))

    async def failure(self, key: AttemptKey) -> Failure:
        """Wait for an attempt and return why it failed."""
        outcome = (await self.ended(key)).outcome
        assert isinstance(outcome, Failed), outcome
        return outcome.error

    def text(self, key: AttemptKey, stream: str = "stdout") -> str:
        """Return what an attempt has printed, as far as it was reported."""
        bodies = [body for _, kind, body in self.events(key) if kind == "log"]
        return "".join(cast("str", body["text"]) for body in bodies if body["stream"] == stream)

    def events(self, key: AttemptKey) -> list[tuple[int, str, Mapping[str, object]]]:
        """Return the events of an attempt as (seq, kind, body)."""
        return [
            (seq, kind, body)
            for report in self.of(AttemptEvents, key)
            for seq, _, kind, body in report.events
        ]

    async def close(self) -> None:
        """End everything."""
        async with asyncio.timeout(PATIENCE_S):
            await self.execution.close(keep_running=False)

    def _key(self) -> AttemptKey:
        self._started += 1
        return AttemptKey(f"job-{self._started}", 1)


def value_of(ended: AttemptEnded) -> object:
    """Return the value of an attempt that succeeded."""
    assert isinstance(ended.outcome, Succeeded), ended.outcome
    match ended.outcome.result:
        case ResultFile(path):
            return unpack(path.read_bytes())
        case result:
            return unpack(result)


def processes_of(state_folder: Path) -> list[int]:
    """Return all processes that belong to runners of a state folder, zombies excepted."""
    folder = state_folder / "runners"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    marks = [f"{MARK}={name}".encode() for name in names] + [f"{folder}/".encode()]
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            environment = path.read_bytes()
            if any(mark in environment for mark in marks) and path.parent.name != str(os.getpid()):
                found.append(int(path.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process exists and is not just a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
