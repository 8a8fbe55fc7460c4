"""Which model a checkpoint belongs to, and who wants notices at all."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from lineshaft_coordinator.notices.announcer import model_name_of
from lineshaft_coordinator.notices.placing import Placing
from lineshaft_coordinator.notices.settings import AnnouncerSettings
from lineshaft_coordinator.store.interface import JobRow
from lineshaft_protocol.kept_files import KeptFile


def checkpoint(metadata: dict[str, JsonValue] | None) -> KeptFile:
    return KeptFile(
        file_id="1.1", kind="checkpoint", name="m.pt", attempt=1, at=0.0, metadata=metadata
    )


def row(name: str, tags: str = "") -> JobRow:
    return JobRow("j1", True, "running", name, "pipeline", "me", 0.0, None, None, 1, tags, None)


@pytest.mark.parametrize(
    ("metadata", "of_job", "expected"),
    [
        ({"model_name": " gru "}, row("train", "model=lstm"), "gru"),
        ({"model_name": ""}, row("train", "model=lstm"), "lstm"),
        ({"model_name": 7}, row("train", "gpu,model=lstm"), "lstm"),
        (None, row("train", "model="), "train"),
        (None, row(""), "j1"),
        (None, None, "j1"),
    ],
)
def test_a_checkpoint_names_its_model_or_its_job_does(
    metadata: dict[str, JsonValue] | None, of_job: JobRow | None, expected: str
) -> None:
    assert model_name_of(checkpoint(metadata), "j1", of_job) == expected


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, None, None),
        ({"FKS_INSTANCE_ID": "prod"}, None, None),
        ({"REDIS_URL": "redis://a"}, None, ("redis://a", "default")),
        (
            {"REDIS_URL": "redis://a", "FKS_INSTANCE_ID": "prod"},
            "redis://b",
            ("redis://b", "prod"),
        ),
        *(
            ({"ENABLE_CHECKPOINT_NOTIFY": word}, "redis://b", None)
            for word in ("0", "no", "off", "false")
        ),
        ({"ENABLE_CHECKPOINT_NOTIFY": "yes"}, "redis://b", ("redis://b", "default")),
    ],
)
def test_s002_04_a_coordinator_announces_only_where_a_url_is_set(
    environ: dict[str, str], url: str | None, expected: tuple[str, str] | None
) -> None:
    settings = AnnouncerSettings.chosen(environ, url=url, instance_id=None, folder=None, kept=5)

    found = None if settings is None else (settings.redis.url, settings.redis.instance_id)
    assert found == expected


def test_a_linked_checkpoint_takes_no_room_and_cannot_be_written_by_mistake(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights")
    placing = Placing(tmp_path / "checkpoints", copies=False, kept=2)

    path = placing.place(blob, "lstm", 1, "m.pt")

    assert path.samefile(blob)
    assert path.stat().st_mode & 0o222 == 0
    blob.unlink()
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("other", [b"weights", b"of a checkpoint that was never announced"])
def test_what_a_crash_left_of_a_version_is_replaced(
    other: bytes, copies: bool, tmp_path: Path
) -> None:
    blob = tmp_path / "blob"
    placing = Placing(tmp_path / "checkpoints", copies=copies, kept=2)
    blob.write_bytes(b"weights")
    left = placing.place(blob, "lstm", 1, "m.pt")
    left.chmod(0o600)
    left.write_bytes(other)
    (left.parent / ".draft").write_bytes(b"half of it")
    blob.chmod(0o600)
    blob.write_bytes(b"weights")

    assert placing.place(blob, "lstm", 1, "m.pt").read_bytes() == b"weights"
    assert [path.name for path in left.parent.iterdir()] == ["m.pt"]


def test_a_blob_that_is_gone_is_no_checkpoint(tmp_path: Path) -> None:
    placing = Placing(tmp_path / "checkpoints", copies=False, kept=2)

    with pytest.raises(FileNotFoundError):
        placing.place(tmp_path / "nothing", "lstm", 1, "m.pt")
