"""What the figures are called, in which direction they are better, and what is aimed at."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    label: str
    unit: str
    is_more_better: bool = False
    aim: float | None = None
    """What Lineshaft is to reach, on two quiet cores."""
    lead: float | None = None
    """How many times better than the best peer it is to be."""


def _cost(what: str, role: str) -> Figure:
    return Figure(label=f"{what}: CPU, {role}", unit="µs a task")


def _rate(label: str, unit: str, aim: float | None = None, lead: float | None = None) -> Figure:
    return Figure(label=label, unit=unit, is_more_better=True, aim=aim, lead=lead)


FIGURES: Mapping[tuple[str, str], Figure] = {
    ("noop-latency", "p50_ms"): Figure(label="no-op there and back, p50", unit="ms", aim=0.8),
    ("noop-latency", "p99_ms"): Figure(label="no-op there and back, p99", unit="ms"),
    ("noop-1k", "tasks_per_s"): _rate("1,000 no-ops at once", "tasks/s"),
    ("noop-10k", "tasks_per_s"): _rate("10,000 no-ops at once", "tasks/s", 8000, 5),
    ("noop-10k", "head_us"): _cost("10,000", "head"),
    ("noop-10k", "worker_us"): _cost("10,000", "worker"),
    ("noop-10k", "client_us"): _cost("10,000", "client"),
    ("noop-100k", "tasks_per_s"): _rate("100,000 no-ops at once", "tasks/s"),
    ("noop-10k-two", "tasks_per_s"): _rate("10,000 no-ops, two workers", "tasks/s"),
    ("arrays-both", "megabytes_per_s"): _rate("256 x 1 MiB both ways", "MB/s each way", 300, 1.8),
    ("arrays-up", "megabytes_per_s"): _rate("256 x 1 MiB up", "MB/s"),
    ("arrays-down", "megabytes_per_s"): _rate("256 x 1 MiB down", "MB/s"),
    ("array-latency", "p50_ms"): Figure(label="1 MiB there and back, p50", unit="ms", aim=4.0),
    ("array-256", "there_and_back_s"): Figure(label="256 MiB there and back", unit="s", aim=0.8),
    ("start", "first_result_s"): Figure(label="start to first result", unit="s", aim=1.0),
    ("idle", "head_pss_mib"): Figure(label="idle, head", unit="MiB", aim=70),
    ("idle", "worker_pss_mib"): Figure(label="idle, worker and its processes", unit="MiB"),
    ("idle", "head_cpu_percent"): Figure(label="idle, head", unit="% of a core", aim=1),
    ("idle", "worker_cpu_percent"): Figure(label="idle, worker", unit="% of a core", aim=1),
    ("import", "import_ms"): Figure(label="client import", unit="ms", aim=150),
}

FLOORS: Mapping[str, tuple[str, str]] = {
    "websocket_echo_p50_ms": ("WebSocket echo of 200 bytes (`websockets`), p50", "ms"),
    "fdatasync_p50_ms": ("append 200 bytes, `fdatasync`, p50", "ms"),
    "thread_hop_us": ("event loop to a thread and back, p50", "µs"),
    "memcpy_1mib_gb_per_s": ("memcpy, 1 MiB", "GB/s"),
    "memcpy_256mib_gb_per_s": ("memcpy, 256 MiB", "GB/s"),
    "sha256_gb_per_s": ("SHA-256", "GB/s"),
}
