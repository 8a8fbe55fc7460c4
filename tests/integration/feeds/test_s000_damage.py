"""A damaged file of reported runs is told, to who looks and to who asks."""

from pathlib import Path
from typing import cast

import pytest

from lineshaft_coordinator.feeds.hub import Hub
from lineshaft_coordinator.server.admission import Grant, Visit
from lineshaft_coordinator.training_runs.answering import Answering
from lineshaft_coordinator.training_runs.book import BookError, RunBook
from lineshaft_coordinator.training_runs.desk import RunDesk
from lineshaft_coordinator.training_runs.routes import RUN, RunRoutes
from lineshaft_runtime.connection import UpgradeRequest
from lineshaft_runtime.opening import Rejection


@pytest.mark.parametrize("content", [b"", b"garbage " * 1000])
async def test_a_viewer_is_told_that_the_file_cannot_be_used(
    tmp_path: Path, content: bytes
) -> None:
    book = RunBook(tmp_path)
    book.path.write_bytes(content)
    unused = cast("Hub", None)
    desk = RunDesk(book, None, unused, None)  # type: ignore[arg-type]
    (door,) = RunRoutes(desk, cast("Answering", None)).doors()
    request = UpgradeRequest(path=f"{RUN}/stream", peer="here")

    verdict = door.admit(Visit(request, Grant("me", "client"), {"run_id": "r"}))

    assert isinstance(verdict, Rejection)
    assert verdict.status == 500
    assert f"{book.path}, where reported training runs are kept, cannot be used" in verdict.text
    with pytest.raises(BookError):
        book.owner_of("r")
    await book.close()
