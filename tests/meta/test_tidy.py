"""What the style guide and the architecture promise about every file, and a tool can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.meta.tree import PACKAGES, ROOT, TEXTS, kept_files, parsed, programs, short, sources

SOURCE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
TEST_LINES_MAX = 600

REFUSED_NAMES = {"utils", "common", "helpers", "manager", "handler", "misc", "base", "types"}

# Spelled in two parts, so that this file does not accuse itself.
WORKPLACE = re.compile(r"(?<![\w/.~$}-])/(?:wor" + r"k|roo" + r"t|home/\w+/\w+)/", re.ASCII)
TEMPORARY = re.compile(r"(?<![\w/.~$}-])/tm" + r"p\b", re.ASCII)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def longer_than(limit: int, paths: list[Path]) -> list[str]:
    lengths = [(path, len(path.read_text().splitlines())) for path in paths]
    return [f"{short(path)}: {length} lines" for path, length in lengths if length > limit]


def test_source_files_are_short() -> None:
    assert longer_than(SOURCE_LINES_MAX, sources() + programs("benchmarks", "examples")) == []


def test_test_files_are_short() -> None:
    assert longer_than(TEST_LINES_MAX, programs("tests")) == []


def long_functions(tree: ast.Module) -> list[tuple[str, int]]:
    lengths = [(f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions_of(tree)]
    return [(name, length) for name, length in lengths if length > FUNCTION_LINES_MAX]


def test_functions_are_short() -> None:
    found = [
        f"{short(path)}: {name} has {length} lines"
        for path in sources() + programs("tests", "benchmarks", "examples")
        for name, length in long_functions(parsed(path))
    ]

    assert found == []


def refused_parts(path: Path) -> set[str]:
    return {path.stem, *(parent.name for parent in path.relative_to(ROOT).parents)} & REFUSED_NAMES


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    everything = sources() + programs("tests", "benchmarks", "examples")

    assert [short(path) for path in everything if refused_parts(path)] == []


def test_every_module_of_the_packages_says_what_it_is() -> None:
    silent = [short(path) for path in sources() if not ast.get_docstring(parsed(path))]

    assert silent == []


def test_each_source_root_holds_exactly_one_package() -> None:
    roots = {name: (ROOT / name).parent for name in PACKAGES}

    for name, root in roots.items():
        folders = [path for path in root.iterdir() if path.is_dir() and path.suffix != ".egg-info"]
        importable = [path for path in folders if any(path.rglob("*.py"))]
        assert [short(path) for path in importable] == [name]


def test_every_package_is_marked_as_typed() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []


# --- words ---

# A comment or sentence, not a name like TODO_LIMIT.
UNNUMBERED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!\s*\(?#\d+)")


def test_nothing_is_left_to_do_without_an_issue() -> None:
    texts = [path for path in kept_files() if path.suffix in TEXTS]
    found = [
        f"{short(path)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if UNNUMBERED.search(line)
    ]

    assert found == []


def test_no_kept_file_names_the_machine_it_was_written_on() -> None:
    found: list[str] = []
    for path in kept_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        patterns = (WORKPLACE, TEMPORARY) if path.suffix == ".md" else (WORKPLACE,)
        hits = [hit.group() for pattern in patterns for hit in pattern.finditer(text)]
        found += [f"{short(path)}: {hit}" for hit in hits]

    assert found == []


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("see /wor" + "k/main/x", True),
        ("'/roo" + "t/.venv'", True),
        ("`/home/" + "anna/lineshaft/x`", True),
        ("https://host/wor" + "k/x", False),
        ("$HOME/wor" + "k/x", False),
        ("deploy/wor" + "ker", False),
    ],
)
def test_paths_of_one_machine_are_told_from_others(text: str, is_refused: bool) -> None:
    assert bool(WORKPLACE.search(text)) is is_refused


# --- sleeping ---


def naps(node: ast.AST, *, is_inside: bool = False) -> Iterator[int]:
    """Lines where a test waits for luck.

    Allowed: `sleep(0)`, which gives others a turn; the pause inside a polling loop; and what
    nested functions do, for those are the jobs, fakes and virtual-time stories of a test.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            if not is_inside:
                yield from naps(child, is_inside=True)
        elif not isinstance(child, ast.While):
            if is_inside and isinstance(child, ast.Call) and is_nap(child):
                yield child.lineno
            yield from naps(child, is_inside=is_inside)


def is_nap(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    is_turn = bool(call.args) and isinstance(call.args[0], ast.Constant) and not call.args[0].value
    return name == "sleep" and not is_turn


def test_no_test_sleeps() -> None:
    found = [f"{short(path)}:{line}" for path in programs("tests") for line in naps(parsed(path))]

    assert found == []


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("    await asyncio.sleep(0.5)", 1),
        ("    for _ in range(3):\n        time.sleep(1)", 1),
        ("    await asyncio.sleep(0)", 0),
        ("    while not condition():\n        await asyncio.sleep(0.005)", 0),
        ("    def job() -> None:\n        time.sleep(60)", 0),
    ],
)
def test_naps_are_told_from_polls_and_jobs(body: str, count: int) -> None:
    tree = ast.parse(f"async def test_it() -> None:\n{body}\n")

    assert len(list(naps(tree))) == count


# --- layers and planted bugs ---


def test_the_layers_hold() -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def planted(tree: ast.Module) -> set[str]:
    """Functions that plant a bug: their first argument is a way to patch."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.args.args:
            annotation = node.args.args[0].annotation
            if isinstance(annotation, ast.Name) and annotation.id == "Patch":
                found.add(node.name)
    return found


def test_every_planted_bug_is_on_a_list_that_somebody_runs() -> None:
    lists = [path for path in programs("tests") if path.stem == "mutants"]
    texts = {path: path.read_text() for path in programs("tests")}

    for path in lists:
        tree = parsed(path)
        used = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        importers = [short(other) for other, text in texts.items() if f"from {module} " in text]
        assert planted(tree), f"{short(path)} plants nothing"
        assert planted(tree) - used == set(), f"{short(path)} plants bugs that nobody runs"
        assert importers or "__main__" in texts[path], f"nobody runs the bugs of {short(path)}"
