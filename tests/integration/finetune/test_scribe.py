"""The log of a training has each line once, however often the coordinator stops in between."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.finetune.test_follower_goes_on import live, spec

from lineshaft_coordinator.finetune.files import TrainingFiles
from lineshaft_coordinator.finetune.following import Following, Story
from lineshaft_coordinator.finetune.scribe import Scribe
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.finetune.views import Request
from lineshaft_coordinator.store.interface import Batch, EventRow
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.events import JobEvent


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path)
    await made.open()
    await made.append(live("t"))
    yield made
    await made.close()


@pytest.fixture
def files(tmp_path: Path) -> TrainingFiles:
    return TrainingFiles(tmp_path / "training", TrainingSettings())


def followed() -> Following:
    story = Story(spec=spec("t"), submitted_at=1.0)
    request = Request()
    return Following(job_id="t", story=story, request=request, clock=time.time, has_files=True)


def prints(seq: int) -> JobEvent:
    body = {"stream": "stdout", "text": f"line {seq}\n"}
    return JobEvent(job_id="t", attempt=1, seq=seq, at=5.0, kind="log", body={**body})


def lines(*numbers: int) -> str:
    return "".join(f"line {number}\n" for number in numbers)


async def test_s001_30_after_a_restart_a_log_goes_on_where_it_was(
    files: TrainingFiles, store: SqliteStore
) -> None:
    first = followed()
    for seq in (2, 3):
        first.take(prints(seq))
    await Scribe(files, store).write(first)
    assert files.log("t").read_text() == lines(2, 3)
    # Written, but it stopped before it could note that it was.
    files.append_log("t", [lines(4)], behind=len(lines(2, 3)))

    scribe, second = Scribe(files, store), followed()
    scribe.restore(second)
    for seq in (3, 4, 5):  # The first of them is known.
        second.take(prints(seq))
    await scribe.write(second)

    assert files.log("t").read_text() == lines(2, 3, 4, 5)


async def test_s001_30_a_log_that_is_made_again_has_what_was_taken_in_and_no_more(
    files: TrainingFiles, store: SqliteStore
) -> None:
    events = [prints(seq) for seq in (2, 3, 4)]
    rows = [EventRow("t", 1, each.seq, 5.0, each.model_dump_json().encode()) for each in events]
    await store.append(Batch(events=rows))
    scribe, job = Scribe(files, store), followed()
    for event in events[:2]:
        job.take(event)
    job.log_written = None  # It lost its end.

    await scribe.write(job)
    assert files.log("t").read_text() == lines(2, 3)
    job.take(events[2])
    await scribe.write(job)

    assert files.log("t").read_text() == lines(2, 3, 4)
