"""Objects in a folder, and in what fsspec opens."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineshaft_runtime.object_errors import (
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreTakenError,
    ObjectStoreUnreachableError,
    ObjectStoreUrlError,
)
from lineshaft_runtime.object_places import DRAFTS
from lineshaft_runtime.object_store import MARKER, ObjectStore, object_name

DATA = os.urandom(3 * 1024 * 1024 + 17)
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["file", "local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "file":
        pytest.importorskip("fsspec")
    if request.param == "s3":
        yield request.getfixturevalue("s3_url")
        return
    folder = tmp_path / "store"
    folder.mkdir()
    yield f"{request.param}://{folder}"
    if request.param == "memory":
        from fsspec.implementations.memory import MemoryFileSystem  # noqa: PLC0415

        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def s3_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a stand-in for S3 that speaks its protocol."""
    why = "not among the development dependencies; pip install 'moto[server]' s3fs"
    s3fs = pytest.importorskip("s3fs", reason=why)
    server_of = pytest.importorskip("moto.server", reason=why).ThreadedMotoServer
    server = server_of(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{os.urandom(8).hex()}"
    s3fs.S3FileSystem().mkdir(bucket)
    yield f"s3://{bucket}/prefix"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def objects(url: str) -> ObjectStore:
    store = ObjectStore(url)
    store.claim("ours", is_new=True)
    return store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def content(objects: ObjectStore, blob_id: str = NAME) -> bytes:
    pieces: list[bytes] = []
    size_bytes = objects.get(blob_id, pieces.append)
    data = b"".join(pieces)
    assert len(data) == size_bytes
    return data


def test_an_object_comes_back_as_it_was_put(objects: ObjectStore, source: Path) -> None:
    beats: list[None] = []
    assert objects.size(NAME) is None

    objects.put(NAME, source, lambda: beats.append(None))

    assert objects.size(NAME) == len(DATA)
    assert content(objects) == DATA
    assert [(each.name, each.size_bytes) for each in objects.objects()] == [(NAME, len(DATA))]
    assert len(beats) >= 3


def test_what_is_there_is_not_sent_again(objects: ObjectStore, source: Path) -> None:
    objects.put(NAME, source)
    beats: list[None] = []

    objects.put(NAME, source, lambda: beats.append(None))

    assert beats == []


def test_an_upload_that_fails_leaves_no_object_and_no_draft(
    objects: ObjectStore, source: Path
) -> None:
    def fail() -> None:
        raise OSError("cut")

    with pytest.raises(ObjectStoreUnreachableError, match="cut"):
        objects.put(NAME, source, fail)

    assert objects.size(NAME) is None
    assert objects.remove_drafts(before=float("inf")) == 0


def test_an_object_that_is_gone_is_said_to_be(objects: ObjectStore, source: Path) -> None:
    objects.put(NAME, source)
    objects.remove(NAME)
    objects.remove(NAME)

    with pytest.raises(ObjectMissingError, match=NAME):
        content(objects)


def test_an_object_that_was_changed_is_noticed(objects: ObjectStore, source: Path) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    objects.put(other, source)

    with pytest.raises(ObjectDamagedError, match=f"hash to {NAME}"):
        content(objects, other)


def test_a_place_belongs_to_one_coordinator(objects: ObjectStore, url: str) -> None:
    ObjectStore(url).claim("ours", is_new=False)

    with pytest.raises(ObjectStoreTakenError, match="another coordinator"):
        ObjectStore(url).claim("theirs", is_new=True)
    assert objects.marker() == "ours"


def test_a_store_without_its_marker_has_lost_nothing(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    objects = ObjectStore(f"file://{folder}")

    with pytest.raises(ObjectStoreUnreachableError, match="is it mounted"):
        objects.claim("ours", is_new=False)
    with pytest.raises(ObjectStoreUnreachableError, match="is it mounted"):
        objects.size(NAME)
    with pytest.raises(ObjectStoreUnreachableError, match="is it mounted"):
        content(objects)
    with pytest.raises(ObjectStoreUnreachableError, match="is it mounted"):
        objects.put(NAME, source)
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_away_is_not_made(tmp_path: Path) -> None:
    objects = ObjectStore(f"file://{tmp_path / 'away'}")

    with pytest.raises(ObjectStoreUnreachableError, match="no folder"):
        objects.claim("ours", is_new=True)

    assert not (tmp_path / "away").exists()


def test_drafts_of_the_dead_are_removed_and_young_ones_stay(tmp_path: Path) -> None:
    objects = ObjectStore(f"file://{tmp_path}")
    (tmp_path / DRAFTS).mkdir()
    for name, changed_at in (("old", 1000.0), ("young", 3000.0)):
        (tmp_path / DRAFTS / name).write_bytes(b"half")
        os.utime(tmp_path / DRAFTS / name, (changed_at, changed_at))

    assert objects.remove_drafts(before=2000.0) == 1

    assert [path.name for path in (tmp_path / DRAFTS).iterdir()] == ["young"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("blobs", "write it as"),
        ("/mnt/blobs", "write it as"),
        ("simplecache::s3://bucket", "write it as"),
        ("file://mnt/blobs", "three slashes"),
        ("s3://key:geheim@bucket/x", "credentials"),
        ("nonsense://bucket/x", "nonsense"),
    ],
)
def test_what_is_no_object_store_is_refused_with_the_way_out(url: str, why: str) -> None:
    with pytest.raises(ObjectStoreUrlError, match=why) as caught:
        ObjectStore(url)
    assert "geheim" not in str(caught.value)


def test_an_object_lies_where_its_hash_says(tmp_path: Path, source: Path) -> None:
    objects = ObjectStore(f"file://{tmp_path}")
    objects.claim("ours", is_new=True)
    objects.put(NAME, source)

    assert (tmp_path / NAME[:2] / NAME).read_bytes() == DATA
    assert object_name(NAME) == f"{NAME[:2]}/{NAME}"
    assert (tmp_path / MARKER).is_file()


def test_a_process_killed_in_the_midst_of_an_upload_leaves_no_object(
    tmp_path: Path, source: Path
) -> None:
    objects = ObjectStore(f"file://{tmp_path}")
    objects.claim("ours", is_new=True)
    code = (
        "import sys, pathlib, time; from lineshaft_runtime.object_store import ObjectStore\n"
        "def beat(): print('some', flush=True); time.sleep(600)\n"
        "ObjectStore(sys.argv[1]).put(sys.argv[2], pathlib.Path(sys.argv[3]), beat)"
    )
    command = [sys.executable, "-c", code, f"file://{tmp_path}", NAME, str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"some\n"
        killed.kill()

    assert objects.size(NAME) is None
    assert len(list((tmp_path / DRAFTS).iterdir())) == 1
    assert objects.remove_drafts(before=float("inf")) == 1
    assert list((tmp_path / DRAFTS).iterdir()) == []
