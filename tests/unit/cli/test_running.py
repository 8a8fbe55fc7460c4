"""From the command line of `lineshaft run` to a job."""

import subprocess
import sys
from pathlib import Path

import pytest

from lineshaft.cli.exits import UsageError
from lineshaft.cli.running import ARGUMENTS_FILE, Order, given, make_order, read_param
from lineshaft.job_files import read_files


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import sys; print(sys.argv, __name__)")
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "main.py").write_text("def main(): ...")
    (tmp_path / "package" / "__pycache__" / "main.pyc").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("lr=0.1", "lr", 0.1),
        ("name=resnet", "name", "resnet"),
        ("sizes=[1, 2]", "sizes", [1, 2]),
        ("formula=a=b", "formula", "a=b"),
        ("flag=true", "flag", True),
        ("empty=", "empty", ""),
        ('quoted="1"', "quoted", "1"),
    ],
)
def test_a_parameter_is_json_or_else_text(text: str, name: str, value: object) -> None:
    assert read_param(text) == (name, value)


@pytest.mark.parametrize("text", ["lr", "=1", ""])
def test_a_parameter_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="has no name"):
        read_param(text)


def names(order: Order) -> list[str]:
    """What the job's files will be called."""
    return sorted(name for name, _ in read_files(order.files).contents)


def test_a_script_brings_itself() -> None:
    order = make_order("train.py:main", [], ["a=1"], [])

    assert (order.entry_point, [*order.files]) == ("train.py:main", ["train.py"])
    assert order.params == {"a": 1}


def test_a_module_brings_its_package_but_not_its_caches() -> None:
    order = make_order("package.main:main", [], [], [])

    assert names(order) == ["package/__init__.py", "package/main.py"]


def test_files_come_along_with_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "package"

    order = make_order("train.py", [Path("package"), folder / "main.py"], [], [])

    assert names(order) == ["main.py", "package/__init__.py", "package/main.py", "train.py"]


def test_a_folder_may_bring_the_script_along() -> None:
    order = make_order("train.py", [Path()], [], [])

    assert "train.py" in names(order)


@pytest.mark.parametrize(
    ("entry", "files", "said"),
    [
        ("nothere.py", [], "there is no file nothere.py"),
        ("train.py", [Path("nothere")], "there is no file nothere"),
        ("../train.py", [], "there is no file ../train.py"),
    ],
)
def test_a_file_that_is_missing_is_named(entry: str, files: list[Path], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_order(entry, files, [], [])


def test_arguments_become_those_of_the_script(tmp_path: Path) -> None:
    order = make_order("train.py", [], [], ["--lr", 'it\'s "0.1"'])

    (tmp_path / ARGUMENTS_FILE).write_bytes(dict(read_files(order.files).contents)[ARGUMENTS_FILE])
    found = subprocess.run(
        [sys.executable, order.entry_point], capture_output=True, text=True, check=True
    )
    assert found.stdout == "['train.py', '--lr', 'it\\'s \"0.1\"'] __main__\n"


def test_a_function_takes_no_arguments_after_the_dashes() -> None:
    with pytest.raises(UsageError, match="--param"):
        make_order("train.py:main", [], [], ["--lr"])


def test_what_was_left_open_is_left_out() -> None:
    assert given({"gpus": 0, "memory": None}) == {"gpus": 0}
