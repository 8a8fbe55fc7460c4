"""Files of jobs: what is taken from a folder, what is refused, what is sent again."""

import os
from pathlib import Path

import pytest

from lineshaft import job_files
from lineshaft.job_files import FilesError, read_files
from lineshaft.options import Options
from lineshaft.shipping import ALONE_BYTES_MIN, Prepared, Shipper
from lineshaft_runtime import bundles
from lineshaft_runtime.bundles import FileRef, PipelineBundle, decode_bundle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(folder: Path, **files: str) -> None:
    """Write files; `__` in a name stands for a slash, a single `_` at its start for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(*paths: str) -> list[str]:
    return [name for name, _ in read_files(list(paths)).contents]


@pytest.mark.parametrize("one", ["a.py", Path("a.py")])
def test_a_single_path_is_one_file_and_not_its_letters(folder: Path, one: str | Path) -> None:
    put(folder, a_py="a")

    assert read_files(one).contents == (("a.py", b"a"),)


def test_a_folder_brings_what_is_in_it_under_its_name(folder: Path) -> None:
    put(folder, src__a_py="a", src__deep__b_py="b", other_py="o")

    assert read_files(["src", "other.py"]).contents == (
        ("src/a.py", b"a"),
        ("src/deep/b.py", b"b"),
        ("other.py", b"o"),
    )
    assert names(".") == ["other.py", "src/a.py", "src/deep/b.py"]
    assert names(str(folder / "src")) == ["src/a.py", "src/deep/b.py"]


def test_what_git_ignores_stays_here(folder: Path) -> None:
    put(
        folder,
        _gitignore="*.ckpt\n/data/\nlogs\n!keep.ckpt\n",
        a_py="",
        a_ckpt="",
        keep_ckpt="",
        data__big_csv="",
        src__data__small_csv="",
        src__logs__x_txt="",
        src___gitignore="!again.ckpt\n*.csv\n",
        src__again_ckpt="",
        src__b_ckpt="",
    )
    (folder / "src" / "__pycache__").mkdir()
    (folder / "src" / "__pycache__" / "b.pyc").touch()

    found = names(".")

    assert found == [".gitignore", "a.py", "keep.ckpt", "src/.gitignore", "src/again.ckpt"]


def test_rules_of_the_repository_hold_in_a_folder_of_it_but_not_beyond(folder: Path) -> None:
    put(
        folder,
        _gitignore="*\n",
        repo___gitignore="*.tmp\n",
        repo__src__a_py="",
        repo__src__b_tmp="",
    )
    (folder / "repo" / ".git").mkdir()

    assert names("repo/src") == ["repo/src/a.py"]


def test_what_is_named_is_taken_though_git_ignores_it(folder: Path) -> None:
    put(folder, _gitignore="data/\nweights.pt\n", data__a_csv="", weights_pt="")
    (folder / ".git").mkdir()

    assert names("data", "weights.pt") == ["weights.pt", "data/a.csv"] or names(
        "data", "weights.pt"
    ) == ["data/a.csv", "weights.pt"]


def test_a_folder_and_a_file_in_it_may_both_be_named(folder: Path) -> None:
    put(folder, src__a_py="a")

    assert names("src", "src/a.py") == ["src/a.py"]


def test_a_link_within_the_folder_is_sent_as_the_file_it_leads_to(folder: Path) -> None:
    put(folder, src__a_py="a")
    (folder / "src" / "b.py").symlink_to("a.py")
    (folder / "src" / ".#a.py").symlink_to("nobody@nowhere:1")

    assert read_files(["src"]).contents == (("src/a.py", b"a"), ("src/b.py", b"a"))


def test_what_its_owner_can_execute_is_told(folder: Path) -> None:
    put(folder, src__a_py="a", src__run_sh="r", go="g", plain="p")
    for name in ("src/run.sh", "go"):
        (folder / name).chmod(0o744)

    assert read_files(["src", "go", "plain"]).executables == ("src/run.sh", "go")
    assert read_files({"run": (folder / "go"), "text": "t"}).executables == ("run",)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/etc/hostname", "something outside of the folder"),
        ("../other", "a folder"),
        ("deep", "a folder"),
    ],
)
def test_a_link_that_leads_elsewhere_is_refused_and_named(
    folder: Path, target: str, said: str
) -> None:
    put(folder, src__deep__a_py="a", other__b_py="b")
    (folder / "src" / "link").symlink_to(target)

    with pytest.raises(FilesError, match=rf"link is a link to {said}.*gitignore"):
        read_files(["src"])


def test_a_pipe_or_device_is_refused_without_opening_it(folder: Path) -> None:
    put(folder, src__a_py="a")
    os.mkfifo(folder / "src" / "pipe")

    with pytest.raises(FilesError, match="pipe is no file but a pipe"):
        read_files(["src"])
    with pytest.raises(FilesError, match="pipe is no file but a pipe"):
        read_files(["src/pipe"])
    with pytest.raises(FilesError, match="is no file but a device"):
        read_files(["/dev/null"])


def test_hard_links_are_files_like_any_other(folder: Path) -> None:
    put(folder, src__a_py="a")
    (folder / "src" / "b.py").hardlink_to(folder / "src" / "a.py")

    assert names("src") == ["src/a.py", "src/b.py"]


def test_too_much_is_refused_before_it_is_read_with_the_largest_named(folder: Path) -> None:
    put(folder, src__a_py="a")
    with (folder / "src" / "data.bin").open("wb") as file:
        file.truncate(bundles.CONTENT_BYTES_MAX + 1)

    with pytest.raises(
        FilesError, match=r"have 1 GiB.*largest are .*data.bin \(1 GiB\).*gitignore"
    ):
        read_files(["src"])


def test_too_many_files_are_refused_with_the_folder_that_has_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "FILES_MAX", 30)
    put(folder, **{f"src__shards__{number}": "" for number in range(40)}, src__a_py="a")

    with pytest.raises(FilesError, match=r"more than 30 files.*shards \(30\).*gitignore"):
        read_files(["src"])


def test_a_file_that_is_not_there_is_said_so(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere") as raised:
        read_files(["nowhere"])

    assert isinstance(raised.value, FilesError)
    assert str(folder) in str(raised.value)


def prepared(shipper: Shipper, files: list[tuple[str, bytes]]) -> Prepared:
    bundle = PipelineBundle(tuple(files), (), "train.py", None, b"")
    return shipper.pipeline(bundle, Options(), name="x")


def test_only_the_file_that_changed_is_new_to_the_coordinator() -> None:
    shipper = Shipper()
    files = [(f"f{number}.py", bytes([number]) * 10_000) for number in range(100)]

    before = prepared(shipper, files)
    files[7] = ("f7.py", b"changed" * 1000)
    after = prepared(shipper, files)

    new = {blob.id: len(blob.data) for blob in after.blobs}
    for blob in before.blobs:
        new.pop(blob.id, None)
    assert max(new.values()) == 7000
    assert sum(new.values()) < 7000 + 100 * 60  # and the list of names and hashes
    assert after.spec.files is not None
    assert len(after.spec.files) == 100
    assert set(after.spec.blobs) == {blob.id for blob in after.blobs}


def test_small_files_go_along_and_equal_ones_are_sent_once() -> None:
    small = ("small.py", b"s" * (ALONE_BYTES_MIN - 1))
    files = [("a.bin", b"x" * 100_000), ("b.bin", b"x" * 100_000), small]

    made = prepared(Shipper(), files)

    assert made.spec.files is not None
    assert len(made.spec.files) == 1
    payload = (
        next(blob for blob in made.blobs if not blob.is_code) if made.spec.payload.blob else None
    )
    data = payload.data if payload else made.spec.payload.inline_bytes()
    contents = dict(decode_bundle(data).files)
    assert contents["a.bin"] == contents["b.bin"] == FileRef(made.spec.files[0], 100_000)
    assert contents["small.py"] == small[1]


def test_a_small_job_needs_no_upload() -> None:
    made = prepared(Shipper(), [("train.py", b"x" * 5000)])

    assert (made.blobs, made.spec.files) == ((), None)


def test_a_job_names_no_more_blobs_than_a_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineshaft.shipping.FILES_MAX", 3)
    files = [(f"f{number}", bytes([number]) * (10_000 + number)) for number in range(10)]

    made = prepared(Shipper(), files)

    assert made.spec.files is not None
    assert len(made.spec.files) == 3
