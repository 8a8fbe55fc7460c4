"""What a submitted function imports of its user's own files is there on the worker."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.farm import Farm

MAIN = """
import sys
from pathlib import Path
import lineshaft
{imports}

{function}

if __name__ == "__main__":
    with lineshaft.Client() as client:
        value, file = client.submit({name}).result(60)
    # Else it would have read our files, for the worker is on the same machine.
    assert not file.startswith(str(Path(__file__).resolve().parent)), file
    print(value)
"""

FILES = {
    "plain.py": "VALUE = 'plain'\n",
    "outer.py": "def get():\n    import inner\n    return inner.VALUE\n",
    "inner.py": "VALUE = 'inner'\n",
    "reader.py": (
        "from pathlib import Path\n"
        "def get():\n    return (Path(__file__).parent / 'data' / 'words.txt').read_text()\n"
    ),
    "data/words.txt": "words",
    "pack/__init__.py": "",
    "pack/first.py": "def get():\n    from .second import VALUE\n    return VALUE, __file__\n",
    "pack/second.py": "from . import third\nVALUE = third.VALUE\n",
    "pack/third.py": (
        "from importlib.resources import files\nVALUE = (files('pack') / 'table.csv').read_text()\n"
    ),
    "pack/table.csv": "1,2",
    "space/part.py": "VALUE = 'space'\n",
    "holder.py": (
        "class Holder:\n    def get(self):\n"
        "        import plain\n        return plain.VALUE, plain.__file__\n"
    ),
}


def lazily(module: str, value: str) -> str:
    return f"def work():\n    import {module} as it\n    return {value}, it.__file__"


@pytest.mark.parametrize(
    ("imports", "function", "name", "printed"),
    [
        ("", lazily("plain", "it.VALUE"), "work", "plain"),
        ("", lazily("outer", "it.get()"), "work", "inner"),
        ("", lazily("reader", "it.get()"), "work", "words"),
        ("", lazily("pack.second", "it.VALUE"), "work", "1,2"),
        ("", lazily("space.part", "it.VALUE"), "work", "space"),
        ("from pack import first", "", "first.get", "1,2"),
        ("from holder import Holder", "def work():\n    return Holder().get()", "work", "plain"),
        (
            "",
            "def work():\n    return (Path(__file__).parent / 'beside.txt').read_text(), __file__",
            "work",
            "beside",
        ),
        (
            "",
            "def work():\n    from importlib import import_module\n"
            "    import plain\n    return import_module('plain').VALUE, plain.__file__",
            "work",
            "plain",
        ),
    ],
)
def test_what_a_function_imports_is_there(
    pair: Farm, tmp_path: Path, imports: str, function: str, name: str, printed: str
) -> None:
    project(tmp_path, FILES)
    (tmp_path / "beside.txt").write_text("beside")
    (tmp_path / "main.py").write_text(MAIN.format(imports=imports, function=function, name=name))

    assert run(pair, tmp_path) == printed


def test_what_arguments_and_filters_import_when_they_are_used_is_there(
    pair: Farm, tmp_path: Path
) -> None:
    project(tmp_path, FILES)
    (tmp_path / "main.py").write_text(
        """
import lineshaft
from pathlib import Path
from holder import Holder

class Reads(lineshaft.Filter):
    def fit(self, x):
        import outer
        return outer.get()

    def forward(self, x, state):
        import plain
        return state, plain.VALUE, plain.__file__

def get(holder):
    return holder.get()

with lineshaft.Client() as client:
    here = str(Path(__file__).resolve().parent)
    value, file = client.submit(get, Holder()).result(60)
    assert not file.startswith(here), file
    pipeline = lineshaft.Pipeline([("reads", Reads())])
    state, seen, place = client.forward(client.fit(pipeline, 1), 1)
    assert not place.startswith(here), place
    print(value, state, seen)
"""
    )

    assert run(pair, tmp_path) == "plain inner plain"


def test_modules_of_one_name_are_not_mixed_in_a_warm_runner(pair: Farm, tmp_path: Path) -> None:
    for user in ("ada", "bob"):
        folder = tmp_path / user
        project(folder, {"plain.py": f"VALUE = '{user}'\nCOUNT = []\n"})
        function = (
            "def work():\n    import plain\n    plain.COUNT.append(1)\n"
            "    return plain.VALUE, plain.__file__"
        )
        (folder / "main.py").write_text(MAIN.format(imports="", function=function, name="work"))

    said = [run(pair, tmp_path / user) for user in ("ada", "bob", "ada", "bob")]

    assert said == ["ada", "bob", "ada", "bob"]


def test_a_changed_module_is_sent_anew_and_a_function_without_any_sees_none(
    pair: Farm, tmp_path: Path
) -> None:
    project(tmp_path, {"plain.py": "VALUE = 1\n"})
    (tmp_path / "main.py").write_text(
        """
import lineshaft
from pathlib import Path

def work():
    import plain
    return plain.VALUE

def look():
    import importlib.util
    return importlib.util.find_spec("plain") is None

with lineshaft.Client() as client:
    client = client.options(worker="w1")
    first = client.submit(work).result(60)
    is_gone = client.submit(look).result(60)
    Path("plain.py").write_text("VALUE = 2\\n")
    print(first, is_gone, client.submit(work).result(60), list(client.map(work_of, [1])))
""".replace("work_of", "lambda _: work()")
    )

    assert run(pair, tmp_path) == "1 True 2 [2]"


def project(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(pair: Farm, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env=pair.environ | {"LINESHAFT_URL": pair.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
