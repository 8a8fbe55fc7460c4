"""A pipeline job in its runner: files written, entry point found and called."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import NoReturn, cast

from lineshaft_runtime.bundles import PipelineBundle
from lineshaft_worker.runner.failures import EntryPointError, FailureError

FILES_NAMED_MAX = 20


def run_entry_point(
    bundle: PipelineBundle, folder: Path, *, params: object, load_input: Callable[[], object]
) -> object:
    """Run what the bundle's entry point names, in the folder where its files are.

    Args:
        bundle: Its files are written already.
        folder: Where they are; becomes the current folder, and first to import from.
        params: The job's parameters; those that a function accepts are its keyword arguments.
        load_input: Called if the function takes `input_data`.

    Returns:
        What the function returned; None for a script.

    Raises:
        FailureError: The entry point is not there.
        BaseException: Whatever the user's code raised.
    """
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    source, _, name = bundle.entry_point.partition(":")
    is_path = source.endswith(".py") or "/" in source or not name
    paths = {path for path, _ in bundle.files}
    if is_path and source not in paths:
        _not_there(bundle, f"there is no file {source!r}")
    if not name:
        _run_script(source)
        return None
    module = _load_file(source) if is_path else _import(bundle, source)
    function = _function(bundle, module, name)
    return _call(function, params, load_input)


def _run_script(path: str) -> None:
    """Run a file as `python path` would, but for the end of the process."""
    main = ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]  # as runpy does
    sys.modules["__main__"] = main
    sys.argv[:] = [path]
    folder = os.path.dirname(path)  # noqa: PTH120 - a text in, a text out
    if folder:
        sys.path.insert(0, str(Path(folder).absolute()))
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # noqa: S102 - this is what a runner is for


def _load_file(path: str) -> ModuleType:
    name = Path(path).stem
    if name in sys.modules:  # A job's `json.py` must not replace what is loaded.
        name = f"lineshaft_job_{name}"
    spec = importlib.util.spec_from_file_location(name, Path(path).absolute())
    assert spec is not None, "the source loader takes any file named .py"
    assert spec.loader is not None, "the source loader takes any file named .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import(bundle: PipelineBundle, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module itself: a module that it fails to import is the user's own error.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            _not_there(bundle, f"there is no module {name!r}")
        raise


def _function(bundle: PipelineBundle, module: ModuleType, name: str) -> Callable[..., object]:
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        what = "has no function" if found is None else "has something else than a function named"
        _not_there(bundle, f"{module.__name__!r} {what} {name!r}")
    return found


def _call(
    function: Callable[..., object], params: object, load_input: Callable[[], object]
) -> object:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # Some built-in functions have none.
        return function()
    given: dict[str, object] = {}
    if isinstance(params, Mapping):
        by_name = cast("Mapping[str, object]", params)
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        takes_all = takes_all or "params" in parameters
        unknown = [key for key in by_name if not takes_all and key not in parameters]
        if unknown:
            takes = ", ".join(parameters) or "none"
            text = f"the function does not take {', '.join(unknown)}; it takes {takes}"
            raise FailureError("entry_point", EntryPointError(text)) from None
        given = {key: by_name[key] for key in by_name if _is_taken(key, parameters)}
    if "input_data" in parameters and "input_data" not in given:
        given["input_data"] = load_input()
    if "params" in parameters and "params" not in given:
        given["params"] = params
    return function(**given)


def _is_taken(key: str, parameters: Mapping[str, inspect.Parameter]) -> bool:
    return key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _not_there(bundle: PipelineBundle, reason: str) -> NoReturn:
    names = [path for path, _ in bundle.files]
    shown = ", ".join(sorted(names)[:FILES_NAMED_MAX]) or "no files at all"
    more = f" and {len(names) - FILES_NAMED_MAX} more" if len(names) > FILES_NAMED_MAX else ""
    error = EntryPointError(
        f"entry point {bundle.entry_point!r}: {reason}; the job has {shown}{more}"
    )
    raise FailureError("entry_point", error) from None
