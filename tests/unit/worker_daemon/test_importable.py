"""Which modules are missing in an environment, told by its folder alone."""

import sys
import sysconfig
from pathlib import Path

import pytest

from lineshaft_worker.environments.importable import missing_here, missing_in

PYTHON = f"python3.{sys.version_info.minor}"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "environment" / "lib" / PYTHON / "site-packages"
    folder.mkdir(parents=True)
    home = Path(sysconfig.get_path("stdlib")).parents[1] / "bin"
    (tmp_path / "environment" / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3\n")
    (folder / "numpy").mkdir()
    (folder / "six.py").touch()
    (folder / "_cffi.cpython-311-x86_64-linux-gnu.so").touch()
    (folder / "lineshaft.pth").touch()
    (folder / "_virtualenv.pth").touch()
    return folder


def missing(packages: Path, *names: str, support: Path | None = None) -> list[str]:
    return missing_in(packages.parents[2], names, support=support)


def test_what_is_installed_or_part_of_python_is_there(packages: Path) -> None:
    assert missing(packages, "numpy", "six", "_cffi", "json", "sys", "_ssl", "nosuch") == ["nosuch"]


def test_our_own_code_is_there(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "support" / "msgpack").mkdir(parents=True)

    assert missing(packages, "msgpack", support=tmp_path / "support") == []
    assert missing(packages, "msgpack") == ["msgpack"]


@pytest.mark.parametrize("name", ["mine.pth", "__editable__.mine-1.0.pth"])
def test_nothing_is_sure_where_other_folders_may_be_searched(packages: Path, name: str) -> None:
    (packages / name).write_text("/somewhere/else\n")

    assert missing(packages, "nosuch") == []


def test_what_the_worker_itself_has_is_there() -> None:
    assert missing_here(["json", "pytest", "lineshaft_no_such_module"]) == [
        "lineshaft_no_such_module"
    ]
