"""F27: names of files that would lead out of a job's folder, or mean two things."""

import os
import unicodedata
from pathlib import Path

import msgpack
import pytest

from lineshaft_runtime.bundles import BundleError, PipelineBundle, decode_bundle, write_bundle

_UP = ["..", "../x", "../../x", "a/..", "a/../x", "a/../../x", "a/b/../../../x", "./..", "x/.."]
_TOP = [
    "/",
    "//",
    "///etc/passwd",
    "/etc/passwd",
    "/proc/self/environ",
    "/dev/null",
    "/tmp/x",
    "/a",
]
_DRIVES = [
    "C:",
    "c:",
    "C:x",
    "C:/x",
    "c:\\x",
    "Z:/",
    "\\\\?\\C:\\x",
    "\\\\.\\pipe\\x",
    "\\\\host\\share",
    "A:B",
]
_BACKSLASHES = [
    "\\",
    "a\\b",
    "..\\x",
    "..\\..\\x",
    "a\\..\\x",
    "\\x",
    "a/..\\x",
    "a\\/b",
    "a/b\\",
    "%s\\%s",
]
_EMPTY = [
    "",
    "a//b",
    "a/",
    "a//",
    "//a",
    "a/b/",
    "a///b",
    "./",
    ".",
    "./a",
    "a/.",
    "a/./b",
    "././a",
]
_ENDS = [
    "a.",
    "a..",
    "a...",
    "...",
    "....",
    "a/b.",
    "a./b",
    ".../x",
    "a ",
    " a",
    "a /b",
    "a/ b",
    " ",
    "a/ ",
    ". ",
    ".. ",
    " ..",
]
_LONG = [
    "x" * 256,
    "a/" + "x" * 256,
    "ä" * 128,
    "x/" * 600 + "x",
    "a/" * 32 + "b",
    "x" * 5000,
    "😀" * 64,
]
_CONTROLS = [f"a{chr(code)}b" for code in (*range(32), *range(127, 160))]
_INVISIBLE = [
    f"a{chr(code)}b"
    for code in (
        0xAD,
        0x61C,
        0x180E,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2065),
        *range(0x2066, 0x2070),
        0xFEFF,
        0xFFF9,
        0xFFFA,
        0xFFFB,
        0xE0001,
        0xE0020,
        0x1D173,
        0x110BD,
    )
]
_SURROGATES = ["\ud800", "a\udfff", "\udc80x", "a/\ud83d", "\udcff\udcfe"]
_BEFORE_AND_AFTER = [
    f"{start}{up}{end}" for start in ("a/", "a/b/") for up in ("..",) for end in ("", "/x", "/../x")
]
ALONE = [
    *_UP,
    *_TOP,
    *_DRIVES,
    *_BACKSLASHES,
    *_EMPTY,
    *_ENDS,
    *_LONG,
    *_CONTROLS,
    *_INVISIBLE,
    *_SURROGATES,
    *_BEFORE_AND_AFTER,
]

PAIRS = [
    ("a", "a"),
    ("a", "A"),
    ("dir/a", "DIR/b"),
    ("dir/a", "Dir/a"),
    ("a", "a/b"),
    ("a/b", "a"),
    ("A/b", "a"),
    ("caf\u00e9", "cafe\u0301"),
    ("stra\u00dfe", "STRASSE"),
    ("\ufb01le", "file"),
    ("\u212a", "k"),
    ("\u0130", "i\u0307"),
    ("\u03c3", "\u03c2"),
    ("\uff21", "a"),
    ("\u2160", "I"),
    ("\u00b5", "\u03bc"),
    ("\u1e9e", "ss"),
    ("\u01c5", "\u01c6"),
    ("x/\u00e9/y", "x/e\u0301/z"),
    ("\u2126", "\u03c9"),
    ("\u00c5", "\u212b"),
    ("a\u00a0b", "a b"),
    ("\u2024a", ".a"),
]


def packed(*names: str) -> bytes:
    """A bundle of a sender that checks nothing, not even that names are Unicode."""
    # use_bin_type=False: bytes become what a text is on the wire.
    text = msgpack.Packer(use_bin_type=False)
    files = [
        b"\x92" + text.pack(name.encode(errors="surrogatepass")) + msgpack.packb(b"evil")
        for name in names
    ]
    start = b"\x96\x01" + bytes([0x90 + len(files)]) + b"".join(files)
    return start + b"".join(map(msgpack.packb, ([], "train.py", None, b"")))


def outside(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_there_are_as_many_as_was_promised() -> None:
    assert len(set(ALONE)) + len(PAIRS) >= 200


@pytest.mark.parametrize("name", ALONE, ids=ascii)
def test_a_hostile_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    unchecked = PipelineBundle((("a.py", b""), (name, b"evil")), (), "a.py", None, b"")

    with pytest.raises(BundleError):
        decode_bundle(packed("a.py", name))
    with pytest.raises(BundleError):
        write_bundle(unchecked, tmp_path / "work")

    assert outside(tmp_path) == []


@pytest.mark.parametrize("pair", PAIRS, ids=ascii)
def test_names_that_meet_somewhere_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    unchecked = PipelineBundle(tuple((name, b"") for name in pair), (), "a.py", None, b"")

    with pytest.raises(BundleError):
        decode_bundle(packed(*pair))
    with pytest.raises(BundleError):
        write_bundle(unchecked, tmp_path / "work")

    assert outside(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "a",
        ".env",
        ".config/x",
        "a b",
        "a-b_c.d",
        "ä/ö.txt",
        "日本語.py",
        "...a",
        "a..b",
        "-rf",
        "~",
        "$HOME",
        "con",
    ],
)
def test_a_harmless_name_is_written(tmp_path: Path, name: str) -> None:
    write_bundle(decode_bundle(packed(name)), tmp_path / "work")

    assert (tmp_path / "work" / unicodedata.normalize("NFC", name)).read_bytes() == b"evil"


def test_a_link_that_is_swapped_in_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    real_mkdir = os.mkdir

    def swap(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if dir_fd is None:
            real_mkdir(path, mode)
        else:  # As a process of the same user could between making and opening it.
            os.symlink(victim, path, dir_fd=dir_fd)

    monkeypatch.setattr("lineshaft_runtime.bundles.os.mkdir", swap)
    bundle = PipelineBundle((("deep/x", b"evil"),), (), "a.py", None, b"")

    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        write_bundle(bundle, tmp_path / "work")

    assert outside(victim) == []


def test_names_of_random_bytes_never_lead_outside(tmp_path: Path) -> None:
    alphabet = ["..", ".", "/", "a", "\\", "\0", "C:", " ", "\u202e", "A", "//", "é", "\udc80"]
    state = 1
    written = 0
    for number in range(3000):
        parts: list[str] = []
        for _ in range(1 + number % 7):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            parts.append(alphabet[(state >> 33) % len(alphabet)])
        bundle = PipelineBundle((("".join(parts), b""),), (), "a.py", None, b"")
        work = tmp_path / "work" / str(number)
        work.parent.mkdir(exist_ok=True)
        try:
            write_bundle(bundle, work)
        except BundleError:
            continue
        written += 1
        assert all(path.is_relative_to(work) for path in work.rglob("*"))

    assert written > 100
    assert outside(tmp_path)[0] == "work"
    assert {path.split("/")[0] for path in outside(tmp_path)} == {"work"}
