"""Long lists are told page by page: every job once, however many there are."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.records import JobSubmitted, encode
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.data.secrets import SecretBox
from lineshaft_coordinator.server.questions import Questions, UnknownJobError
from lineshaft_coordinator.store.interface import Batch, JobRow
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import ArrayItem, JobSpec, Payload

ITEMS = 25
ARRAY = [f"a.{number}" for number in range(ITEMS)]


@pytest.fixture
async def questions(tmp_path: Path) -> AsyncIterator[Questions]:
    """A history of an array all of whose items failed, two at each moment."""
    store = SqliteStore(tmp_path / "data")
    await store.open()
    records: list[tuple[str, float, bytes]] = []
    rows: list[JobRow] = []
    for number, job_id in enumerate(ARRAY):
        item = ArrayItem(array_id="a", item=number, count=ITEMS)
        payload = Payload(inline="eA==")
        spec = JobSpec(job_id=job_id, kind="function", payload=payload, array=item)
        at = float(number // 2)
        records.append((job_id, at, encode(JobSubmitted(job_id=job_id, client_id="c", job=spec))))
        rows.append(
            JobRow(job_id, False, "failed", "", "function", "c", at, at + 1, None, 1, "", "bad")
        )
    await store.append(Batch(records=records, rows=rows))
    shop = Shop(CoreSettings(), Ledger(), epoch=1, started_at=0.0, now=0.0)
    yield Questions(shop, store, SecretBox(tmp_path / "secrets"))
    await store.close()


def _ids(found: JsonValue) -> list[JobId]:
    assert isinstance(found, list)
    return [JobId(str(each["job_id"])) for each in found if isinstance(each, dict)]


@pytest.mark.parametrize("status", ["failed", None])
async def test_each_job_is_on_one_page(questions: Questions, status: str | None) -> None:
    pages: list[list[JobId]] = [_ids(await questions.jobs(status=status, limit=10))]
    while pages[-1]:
        last = pages[-1][-1]
        pages.append(_ids(await questions.jobs(status=status, limit=10, before=last)))

    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert sorted(job_id for page in pages for job_id in page) == sorted(ARRAY)


async def test_a_page_behind_a_job_that_nobody_knows_is_refused(questions: Questions) -> None:
    with pytest.raises(UnknownJobError, match="no job nobody is known"):
        await questions.jobs(limit=10, before=JobId("nobody"))


async def test_the_items_of_an_array_are_told_page_by_page_in_order(questions: Questions) -> None:
    pages = [
        await questions.array("a", status="failed", offset=offset, limit=10)
        for offset in (0, 10, 20)
    ]

    assert [job_id for page in pages for job_id in _ids(page["items"])] == ARRAY
    assert [page["counts"] for page in pages] == [{"failed": ITEMS}] * 3
    assert questions.families._listing is None  # The last page was asked for.


async def test_a_page_is_of_the_list_that_is_asked_for(questions: Questions) -> None:
    await questions.array("a", status="failed", offset=0, limit=10)

    others = await questions.array("a", status="succeeded", offset=10, limit=10)
    middle = await questions.array("a", status=None, offset=20, limit=10)

    assert others["items"] == []
    assert _ids(middle["items"]) == ARRAY[20:]
