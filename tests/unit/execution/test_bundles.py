"""Bundles: what is packed comes back, and no name leads out of the job's folder."""

import hashlib
import os
from pathlib import Path

import msgpack
import pytest

from lineshaft_runtime import bundles
from lineshaft_runtime.bundles import (
    CONTENT_BYTES_MAX,
    BundleError,
    FileRef,
    PipelineBundle,
    decode_bundle,
    encode_bundle,
    write_bundle,
)


def bundle_of(*paths: str) -> PipelineBundle:
    files = tuple((path, path.encode(errors="replace")) for path in paths)
    return PipelineBundle(files, ("numpy>=2",), "train.py", None, b"params")


def test_a_bundle_comes_back_as_it_was() -> None:
    bundle = PipelineBundle((("a/b.py", b"\x00"),), ("x", "y"), "a.b:main", b"in", b"params")

    assert decode_bundle(encode_bundle(bundle)) == bundle


def test_files_are_written_for_us_alone(tmp_path: Path) -> None:
    write_bundle(bundle_of("train.py", "deep/er/data.csv", "deep/x"), tmp_path / "work")

    assert (tmp_path / "work/deep/er/data.csv").read_bytes() == b"deep/er/data.csv"
    assert oct((tmp_path / "work").stat().st_mode & 0o777) == "0o700"
    assert oct((tmp_path / "work/deep/x").stat().st_mode & 0o777) == "0o600"


def test_what_is_executable_stays_so_and_nothing_else_becomes_it(tmp_path: Path) -> None:
    bundle = bundle_of("bin/run", "train.py")._replace(executables=("bin/run",))

    write_bundle(decode_bundle(encode_bundle(bundle)), tmp_path / "work")

    assert oct((tmp_path / "work/bin/run").stat().st_mode & 0o777) == "0o700"
    assert oct((tmp_path / "work/train.py").stat().st_mode & 0o777) == "0o600"


def test_an_executable_that_is_no_file_of_the_job_is_refused() -> None:
    with pytest.raises(BundleError, match="executable but not there"):
        encode_bundle(bundle_of("train.py")._replace(executables=("run",)))


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "./a", "a/./b", "a//b",
        "a/", "\\\\host\\x", "a\\..\\b", "C:/x", "c:x", "a\0b", "a\nb", "a\x7fb", "\u202etxt.py",
        "a\u200bb", "a.", "a /b", " a", "a/ b", "x" * 256, "a/" * 32 + "b", "x/" * 600, "\ud800",
    ],
)  # fmt: skip
def test_a_name_that_is_not_plain_and_relative_is_refused(path: str) -> None:
    with pytest.raises(BundleError):
        encode_bundle(bundle_of("train.py", path))


@pytest.mark.parametrize(
    "paths",
    [
        ("a", "a"),
        ("a", "A"),
        ("dir/a", "DIR/b"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("A/b", "a"),
        ("caf\u00e9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("\ufb01le", "file"),
    ],
)
def test_names_that_some_file_system_takes_for_the_same_are_refused(
    paths: tuple[str, ...],
) -> None:
    with pytest.raises(BundleError):
        encode_bundle(bundle_of(*paths))


def test_a_sender_that_checks_nothing_is_refused_when_it_is_decoded(tmp_path: Path) -> None:
    packed = msgpack.packb((1, [("../evil", b"")], [], "train.py", None, b""))
    unchecked = PipelineBundle((("../evil", b""),), (), "train.py", None, b"")

    with pytest.raises(BundleError, match="not allowed"):
        decode_bundle(packed)
    with pytest.raises(BundleError, match="not allowed"):
        write_bundle(unchecked, tmp_path / "work")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"no bundle",
        msgpack.packb((3, [], [], "train.py", None, b"")),
        msgpack.packb((2, [("a", b"x" * 31, 1)], [], "train.py", None, b"")),
        msgpack.packb((2, [("a", b"x" * 32, -1)], [], "train.py", None, b"")),
        msgpack.packb((2, [("a", b"x" * 32, 2**62)], [], "train.py", None, b"")),
        msgpack.packb((2, [("a", b"x" * 32, 1, 1)], [], "train.py", None, b"")),
        msgpack.packb((1, [], [], "train.py", None)),
        msgpack.packb((1, [("a",)], [], "train.py", None, b"")),
        msgpack.packb((1, [("a", "text")], [], "train.py", None, b"")),
        msgpack.packb((1, [], [3], "train.py", None, b"")),
        msgpack.packb((1, [], [], "", None, b"")),
        msgpack.packb((1, [], [], "train.py", None, None)),
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
    ],
)
def test_what_is_no_bundle_is_refused(packed: bytes) -> None:
    with pytest.raises(BundleError):
        decode_bundle(packed)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = encode_bundle(bundle_of("a", "b", "c"))
    monkeypatch.setattr(bundles, "FILES_MAX", 2)

    with pytest.raises(BundleError):
        encode_bundle(bundle_of("a", "b", "c"))
    with pytest.raises(BundleError):
        decode_bundle(packed)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = encode_bundle(bundle_of("train.py"))
    monkeypatch.setattr(bundles, "PACKED_BYTES_MAX", len(packed) - 1)

    with pytest.raises(BundleError, match="are more than"):
        encode_bundle(bundle_of("train.py"))
    with pytest.raises(BundleError, match="are more than"):
        decode_bundle(packed)


def test_a_folder_that_exists_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "work").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FileExistsError):
        write_bundle(bundle_of("train.py"), tmp_path / "work")


def referring(content: bytes, *, size_bytes: int | None = None) -> PipelineBundle:
    """A bundle with one file whose content is a blob."""
    ref = FileRef(
        hashlib.sha256(content).hexdigest(), len(content) if size_bytes is None else size_bytes
    )
    return PipelineBundle((("data/x.bin", ref), ("train.py", b"")), (), "train.py", None, b"")


def test_a_file_may_be_a_blob(tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20)
    bundle = decode_bundle(encode_bundle(referring(content)))
    (tmp_path / hashlib.sha256(content).hexdigest()).write_bytes(content)

    write_bundle(bundle, tmp_path / "work", tmp_path)

    assert (tmp_path / "work/data/x.bin").read_bytes() == content


@pytest.mark.parametrize("stored", [b"other", b"c0ntent", b"content and more", b""])
def test_a_blob_that_is_not_what_it_is_called_is_refused(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / hashlib.sha256(b"content").hexdigest()).write_bytes(stored)

    with pytest.raises(BundleError, match="not what was sent"):
        write_bundle(referring(b"content"), tmp_path / "work", tmp_path)


def test_a_blob_of_another_size_than_said_is_refused(tmp_path: Path) -> None:
    (tmp_path / hashlib.sha256(b"content").hexdigest()).write_bytes(b"content")

    with pytest.raises(BundleError, match="not what was sent"):
        write_bundle(referring(b"content", size_bytes=1), tmp_path / "work", tmp_path)


def test_a_blob_is_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"content")
    (tmp_path / hashlib.sha256(b"content").hexdigest()).symlink_to(tmp_path / "secret")

    with pytest.raises(OSError, match="symbolic"):
        write_bundle(referring(b"content"), tmp_path / "work", tmp_path)


def test_a_job_of_blobs_may_not_unpack_to_more_than_the_limit() -> None:
    with pytest.raises(BundleError, match="bytes of files are more"):
        encode_bundle(
            PipelineBundle(
                tuple((f"f{n}", FileRef("0" * 64, CONTENT_BYTES_MAX // 2 + 1)) for n in range(2)),
                (),
                "train.py",
                None,
                b"",
            )
        )


def test_a_million_files_are_refused_before_they_are_looked_at() -> None:
    files = [(f"f{number}", b"") for number in range(1_000_000)]
    packed = msgpack.packb((1, files, [], "train.py", None, b""))

    with pytest.raises(BundleError, match="damaged: 1000000 exceeds"):
        decode_bundle(packed)
