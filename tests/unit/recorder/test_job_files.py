"""Files of jobs on the lists of their records, whatever a worker calls them."""

import json
from pathlib import Path

import pytest
from tests.integration.store.samples import event, submitted

from lineshaft_coordinator.data.blob_files import blob_path
from lineshaft_coordinator.recorder.job_files import BLOBS, JobFiles
from lineshaft_coordinator.recorder.source import Source
from lineshaft_coordinator.store.interface import Batch
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_records.layout import RunFolder

DIGEST = "ab" * 32


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 300 + ".png"])
def test_a_picture_whose_name_no_file_can_have_is_listed_without_one(
    tmp_path: Path, name: str
) -> None:
    blob = blob_path(tmp_path / BLOBS, DIGEST)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"picture")
    run = RunFolder(tmp_path / "runs" / "e" / "r")
    run.path.mkdir(parents=True)
    file = {"file_id": "1.1", "kind": "artifact", "name": f"media/{name}", "blob": DIGEST}

    JobFiles(run, tmp_path, {}).note({**file, "size_bytes": 7}, "sample")

    (listed,) = [json.loads(line) for line in run.artifact_list.read_text().splitlines()]
    assert listed["sha256"] == DIGEST
    assert list((run.path / "media").iterdir()) == []


@pytest.mark.parametrize(
    ("file_id", "tag"),
    [("1.1", "sample"), ("1.2", None), ("1.o12ab", None), ("1." + "9" * 40, None)],
)
async def test_a_tag_is_found_by_the_id_of_a_file_and_no_id_is_too_long(
    tmp_path: Path, file_id: str, tag: str | None
) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.append(submitted("j1"))
    told = event("j1", 1, body=b'{"kind":"artifact","body":{"tag":"sample"}}')
    await store.append(Batch(events=[told]))
    source = Source(tmp_path)

    found = source.tag_of("j1", file_id)
    source.close()
    await store.close()

    assert found == tag
