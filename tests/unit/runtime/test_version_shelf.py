"""Files of versions: never a name twice, never outside the folder, never more than are kept."""

from pathlib import Path

import pytest

from lineshaft_runtime.version_shelf import VersionShelf, model_folder_name, safe_file_name


def test_each_claim_gets_a_version_of_its_own_that_grows(tmp_path: Path) -> None:
    one, other = VersionShelf(tmp_path, "lstm"), VersionShelf(tmp_path, "lstm")

    claimed = [shelf.claim("m.bin")[0] for shelf in (one, other, one, other)]

    assert claimed == [1, 2, 3, 4]


def test_the_newest_versions_stay_and_the_next_one_still_grows(tmp_path: Path) -> None:
    shelf = VersionShelf(tmp_path, "lstm", kept=2)

    for _ in range(12):
        shelf.claim("m.bin")
        shelf.retire()

    assert shelf.versions() == [11, 12]
    assert VersionShelf(tmp_path, "lstm").claim("m.bin")[0] == 13


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "../../etc", "a" * 500, "ä" * 500, ".hidden", "a\0b", "\udcff"]
)
def test_whatever_a_model_is_called_its_folder_is_one_below_the_others(
    name: str, tmp_path: Path
) -> None:
    folder = VersionShelf(tmp_path, name).place(1, "m.bin").parent.parent

    assert folder.parent == tmp_path
    assert folder.is_dir()


def test_different_models_have_different_folders() -> None:
    names = ["a/b", "a%2Fb", "a b", "", "%", "A", "x" * 300, "x" * 301, ".a", "%2Ea"]

    assert len({model_folder_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["..", "", "../x/", ".git", "a\\..\\b", "b" * 400 + ".pt"])
def test_whatever_a_file_is_called_it_lies_in_its_version(name: str, tmp_path: Path) -> None:
    path = VersionShelf(tmp_path, "lstm").place(3, name)

    path.write_bytes(b"weights")

    assert path.parent == tmp_path / "lstm" / "v3"


def test_a_long_name_keeps_how_it_ends() -> None:
    assert safe_file_name("b" * 400 + ".safetensors").endswith("b.safetensors")
