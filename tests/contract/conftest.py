"""The captured frames of real peers, by what is in them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Frame:
    """A WebSocket frame that a real peer of a dialect sent or got."""

    label: str
    dialect: Literal["A", "C"]
    to_worker: bool
    text: str | None
    binary: bytes | None


def _lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def _dialect(name: str) -> Literal["A", "C"]:
    return "A" if "0.2.24" in name else "C"


def _exchanges(name: str) -> list[Frame]:
    return [
        Frame(
            label=line["label"],
            dialect=_dialect(name),
            to_worker=line["dir"] == "to_worker",
            text=line.get("text"),
            binary=bytes.fromhex(line["hex"]) if "hex" in line else None,
        )
        for line in _lines(name)
        if line.get("frame") in ("text", "binary")
    ]


def _session(name: str) -> list[Frame]:
    return [
        Frame(
            label=f"session {line['session']}.{line['conn']}",
            dialect=_dialect(name),
            to_worker=line["dir"] == "client_to_worker",
            text=line.get("text"),
            binary=bytes.fromhex(line["hex"]) if "hex" in line else None,
        )
        for line in _lines(name)
        if line["kind"] == "ws" and line["opcode"] in ("text", "binary")
        and ("text" in line or "hex" in line)
    ]  # fmt: skip


def _jobs(name: str) -> list[Frame]:
    return [
        Frame(line["label"], _dialect(name), to_worker, text, None)
        for line in _lines(name)
        for to_worker, text in [(True, line["sent"]), *((False, each) for each in line["replies"])]
    ]


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    read: dict[str, Callable[[str], list[Frame]]] = {
        "worker-0.2.24-exchanges.jsonl": _exchanges,
        "worker-0.5.1-exchanges.jsonl": _exchanges,
        "session-0.2.24-client-and-worker.jsonl": _session,
        "session-0.5.1-client-and-worker.jsonl": _session,
        "worker-0.5.1-python-jobs.jsonl": _jobs,
    }
    return [frame for name, reader in read.items() for frame in reader(name)]
