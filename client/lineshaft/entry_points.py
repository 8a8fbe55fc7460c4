"""Whether the entry point of a pipeline job can be there, asked before the job is sent."""

import ast
from collections.abc import Iterator, Sequence

from lineshaft.errors import InvalidJobError

NAMES_SHOWN_MAX = 20


def check_entry_point(entry_point: str, files: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Return the file that an entry point names; None if it names a module, which may be installed.

    Raises:
        InvalidJobError: There is no such file, or nothing of that name in it.
    """
    source, _, name = entry_point.partition(":")
    is_path = source.endswith(".py") or "/" in source or not name
    contents = dict(files)
    if not is_path:
        return None
    if source not in contents:
        there = ", ".join(sorted(contents)[:NAMES_SHOWN_MAX]) or "no files"
        raise InvalidJobError(
            f"entry point {entry_point!r}: there is no file {source!r}; the job has {there}"
        )
    if name:
        _check_name(entry_point, contents[source], name.partition(".")[0])
    return contents[source]


def _check_name(entry_point: str, source: bytes, name: str) -> None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # Its worker's Python may be newer than ours; it says what is wrong.
    names = set(_bound(tree.body))
    if name not in names and "*" not in names:
        there = ", ".join(sorted(each for each in names if not each.startswith("_")))
        raise InvalidJobError(
            f"entry point {entry_point!r}: the file has no {name!r}; it has {there or 'nothing'}"
        )


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """List what a module's statements bind; "*" if that cannot be known."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    yield (alias.asname or alias.name).partition(".")[0]
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        yield node.id
            case ast.Expr(value=ast.Constant()):
                pass  # A docstring.
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                pass  # Not when it is imported.
            case _:
                yield "*"  # What else a module does may bind anything.
