"""Files that a job says it keeps: it may say anything."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lineshaft_protocol.ids import BlobId, JobId
from lineshaft_protocol.jobs import Payload
from lineshaft_worker.core.io import AttemptKey, FileStored
from lineshaft_worker.daemon.keeper import Keeper
from lineshaft_worker.execution.orders import AttemptKey as OrderKey
from lineshaft_worker.execution.reports import AttemptEvents

KEY = AttemptKey(JobId("job-1"), 1)


async def store(path: Path, blob_id: BlobId) -> Payload:
    assert path.name == "1.1.data"
    return Payload(blob=blob_id, size_bytes=7)


async def taken(folder: Path, body: Mapping[str, object]) -> FileStored:
    """What the core hears of a file that a job says it has saved."""
    posted: list[FileStored] = []
    keeper = Keeper(folder / "keeper", store, posted.append)
    keeper.take_over()
    spoke = AttemptEvents(OrderKey("job-1", 1), ((1, 1.0, "checkpoint", body),))
    keeper.take(spoke, folder / "kept")
    await keeper.drained(KEY)
    (told,) = posted
    return told


@pytest.mark.parametrize("metadata", ["a text", [1, 2], 5, True])
async def test_metadata_that_are_no_mapping_do_not_keep_a_file_from_being_stored(
    tmp_path: Path, metadata: object
) -> None:
    saved = tmp_path / "kept" / "1" / "model.pt"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"weights")

    told = await taken(tmp_path, {"kept": str(saved), "metadata": metadata})

    assert told.file.problem is None
    assert told.file.metadata is None


async def test_a_file_with_an_impossible_name_is_told_as_not_kept(tmp_path: Path) -> None:
    place = tmp_path / "kept" / "1"
    place.mkdir(parents=True)

    told = await taken(tmp_path, {"kept": str(place / ("x" * 300)), "name": "x"})

    assert told.file.problem == "it cannot be looked at: File name too long"


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("turned \u202egnp.exe", "turned (U+202E)gnp.exe"),
        ("bell\a.txt", "bell(U+0007).txt"),
        ("a\\b", "a(U+005C)b"),
        ("caf\udce9", "caf(U+DCE9)"),
        ("été ✓.pt", "été ✓.pt"),
    ],
)
async def test_a_file_is_kept_whatever_nobody_sees_in_its_name(
    tmp_path: Path, name: str, spelled: str
) -> None:
    saved = tmp_path / "kept" / "1" / "model.pt"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"weights")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / name).write_bytes(b"weights")
    posted: list[FileStored] = []
    keeper = Keeper(tmp_path / "other", store_any, posted.append)
    keeper.take_over()

    told = await taken(tmp_path, {"kept": str(saved), "name": name})
    keeper.take_outputs(KEY, outputs)
    await keeper.drained(KEY)

    (output,) = posted
    for file in (told.file, output.file):
        assert (file.name, file.problem) == (spelled, None)
        assert file.blob is not None


async def test_outputs_that_are_too_many_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineshaft_worker.daemon.keeper.OUTPUT_FILES_MAX", 2)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    for name in "abcde":
        (outputs / name).touch()
    posted: list[FileStored] = []
    keeper = Keeper(tmp_path / "keeper", store_any, posted.append)
    keeper.take_over()

    keeper.take_outputs(KEY, outputs)
    await keeper.drained(KEY)

    *stored, told = (each.file for each in posted)
    assert [(file.name, file.problem) for file in stored] == [("a", None), ("b", None)]
    assert told.problem is not None
    assert "3 more files were left out" in told.problem


async def store_any(path: Path, blob_id: BlobId) -> Payload:
    assert path.suffix == ".data"
    return Payload(blob=blob_id, size_bytes=0)
