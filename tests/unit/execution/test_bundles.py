"""Bundles: what is packed comes back, and no name leads out of the job's folder."""

from pathlib import Path

import msgpack
import pytest

from lineshaft_runtime import bundles
from lineshaft_runtime.bundles import (
    BundleError,
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
        msgpack.packb((2, [], [], "train.py", None, b"")),
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
