"""Which modules a job cannot start without: those that are sure, and no others."""

import pytest

from lineshaft.needed_modules import needed_modules


def needs(entry_point: str, files: dict[str, str]) -> tuple[str, ...]:
    return needed_modules(entry_point, [(name, text.encode()) for name, text in files.items()])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy", ("numpy",)),
        ("import numpy.linalg as la, scipy", ("numpy", "scipy")),
        ("from sklearn.svm import SVC\nimport sklearn", ("sklearn",)),
        ("import os, json\nfrom collections.abc import Iterable", ()),
        ("from __future__ import annotations\nimport __main__", ()),
        ("from lineshaft import run", ()),
        ("'''A text.'''\nimport numpy", ("numpy",)),
        ("RATE = 0.1\nimport numpy", ("numpy",)),
        # What may never be needed.
        ("try:\n    import numpy\nexcept ImportError:\n    numpy = None", ()),
        ("try:\n    import ujson as json\nexcept ImportError:\n    import simplejson", ()),
        ("def late():\n    import numpy", ()),
        ("class Late:\n    def late(self):\n        import numpy", ()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy", ()),
        ("import typing\nif typing.TYPE_CHECKING:\n    import numpy\nimport scipy", ("scipy",)),
        ("import sys\nif sys.version_info < (3, 12):\n    import numpy", ()),
        ("import contextlib\nwith contextlib.suppress(ImportError):\n    import numpy", ()),
        ("if __name__ == '__main__':\n    import numpy", ()),
        # What may have become importable by then.
        ("import sys\nsys.path.insert(0, 'lib')\nimport inner", ()),
        ("import sys\nsys.path += ['lib']\nimport inner", ()),
        ("import os\nx = os.system('pip install numpy')\nimport numpy", ()),
        ("try:\n    import a\nexcept ImportError:\n    install('a')\nimport b", ()),
        ("import numpy\nprint(1)\nimport scipy", ("numpy",)),
        ("import numpy ; this is no Python", ()),
    ],
)
def test_only_imports_that_are_sure_count(source: str, found: tuple[str, ...]) -> None:
    assert needs("train.py", {"train.py": source}) == found


def test_files_of_the_job_are_followed_and_not_needed() -> None:
    files = {
        "src/train.py": "import model, tools.plot\nfrom data import load",
        "src/model.py": "import torch",
        "src/tools/__init__.py": "import yaml",
        "src/tools/plot.py": "from . import style\nimport matplotlib.pyplot",
        "src/tools/style.py": "import seaborn",
        "data/__init__.py": "from .reading import load",
        "data/reading.py": "import pandas\nfrom ..nowhere import x",
        "unused.py": "import tensorflow",
    }

    found = needs("src/train.py:main", files)

    assert found == ("torch", "yaml", "seaborn", "matplotlib", "pandas")


def test_a_file_of_the_job_that_may_change_the_path_ends_what_is_sure() -> None:
    paths = "import sys\nsys.path.append('x')"

    assert needs("train.py", {"train.py": "import paths\nimport inner", "paths.py": paths}) == ()


def test_files_that_import_each_other_are_read_once() -> None:
    assert needs("a.py", {"a.py": "import b\nimport numpy", "b.py": "import a"}) == ("numpy",)


def test_a_module_as_entry_point_is_followed_or_needed() -> None:
    assert needs("pack.train:main", {"pack/train.py": "import torch"}) == ("torch",)
    assert needs("elsewhere.train:main", {"other.py": ""}) == ("elsewhere",)


def test_compiled_modules_among_the_files_are_there() -> None:
    files = [("train.py", b"import fast"), ("fast.cpython-311-x86_64-linux-gnu.so", b"\x7fELF")]

    assert needed_modules("train.py", files) == ()
