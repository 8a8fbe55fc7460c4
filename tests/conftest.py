"""What holds for every test."""

import signal

import pytest

# Started in the background of a script, a process ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIRST = (
    "tests/simulation/",
    "tests/faults/",
    "tests/meta/test_documents.py",
    "tests/unit/finetune/test_archives.py",
    "tests/integration/coordinator/",
    "tests/e2e/",
    "tests/integration/",
)
"""Where the files are that take longest. A file is run by one process: a long one that begins
last is what all wait for in the end, while the others have nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; xdist keeps the order if told `--no-loadscope-reorder`."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    places = (rank for rank, start in enumerate(FIRST) if item.nodeid.startswith(start))
    return next(places, len(FIRST))
