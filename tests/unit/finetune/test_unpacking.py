"""Checkpoints as folders, which nobody damages by looking for them there."""

from pathlib import Path

from lineshaft_coordinator.finetune.unpacking import unpack_all
from lineshaft_protocol.kept_files import KeptFile


def test_a_checkpoint_that_is_the_blob_itself_cannot_be_written_to(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights")
    blob.chmod(0o600)
    file = KeptFile(
        file_id="1-1", attempt=1, kind="checkpoint", name="out/model.pt", step=2, at=1.0
    )

    unpack_all(tmp_path / "job", [file.model_copy(update={"blob": "a" * 64})], lambda _id: blob)

    target = tmp_path / "job" / "checkpoint-2" / "model.pt"
    assert target.samefile(blob)
    assert target.stat().st_mode & 0o777 == 0o400


def test_a_blob_is_asked_for_only_where_there_is_no_folder_yet(tmp_path: Path) -> None:
    blob, asked = tmp_path / "blob", list[str]()
    blob.write_bytes(b"weights")
    file = KeptFile(
        file_id="1-1", attempt=1, kind="checkpoint", name="model.pt", step=2, at=1.0, blob="a" * 64
    )

    def bring(blob_id: str) -> Path:
        asked.append(blob_id)
        return blob

    for _ in range(2):
        unpack_all(tmp_path / "job", [file], bring)

    assert asked == ["a" * 64]
