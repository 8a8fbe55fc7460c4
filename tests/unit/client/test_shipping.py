"""Functions as bytes: what goes along, what is pickled again, and what cannot go."""

import gc
import importlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from lineshaft.chunks import ChunkCall
from lineshaft.code_shelf import CodeShelf
from lineshaft.errors import CannotPackError, InvalidJobError
from lineshaft.futures import LineshaftFuture
from lineshaft.local_modules import LocalModules
from lineshaft.options import Options
from lineshaft.shipping import PYTHON, Shipper
from lineshaft_protocol.jobs import INLINE_BYTES_MAX
from lineshaft_runtime.packing import unpack

RUN = "import pickle, sys; print(pickle.load(sys.stdin.buffer)({}))"


@pytest.fixture
def shelf() -> CodeShelf:
    return CodeShelf(LocalModules((Path("/nowhere"),)))


@pytest.fixture
def shipper() -> Shipper:
    return Shipper(LocalModules((Path("/nowhere"),)))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's own modules, imported by nobody else."""
    (tmp_path / "own_sizes.py").write_text("FACTOR = 3\ndef triple(x):\n    return FACTOR * x\n")
    (tmp_path / "own_work.py").write_text(
        "import dataclasses\n"
        "import own_sizes\n"
        "from own_sizes import triple\n"
        "@dataclasses.dataclass\n"
        "class Point:\n    x: int\n"
        "def work(x):\n    return triple(x) + own_sizes.FACTOR\n"
        "def read(point):\n    return point.x\n"
    )
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in ("own_sizes", "own_work"):
        sys.modules.pop(name, None)


def elsewhere(pickled: bytes, argument: str) -> str:
    """Load and call in a process that cannot import what this one can."""
    command = [sys.executable, "-c", RUN.format(argument)]
    return (
        subprocess.run(command, input=pickled, capture_output=True, check=True, cwd="/")
        .stdout.decode()
        .strip()
    )


def function_of(source: str, **names: object) -> Callable[..., object]:
    """A function as a notebook would have it: defined in a namespace that nobody can import."""
    names["__name__"] = "__main__"
    exec(source, names)
    found = names["f"]
    assert callable(found)
    return found


def test_a_function_is_pickled_once(shelf: CodeShelf) -> None:
    function = function_of("FACTOR = 2\ndef f(x): return FACTOR * x")

    assert shelf.code(function) is shelf.code(function)


def test_a_function_is_pickled_again_when_a_global_is_another(shelf: CodeShelf) -> None:
    function = function_of("FACTOR = 2\ndef f(x): return FACTOR * x")
    before = shelf.code(function)
    function.__globals__["FACTOR"] = 3

    after = shelf.code(function)

    assert elsewhere(before.data, "5") == "10"
    assert elsewhere(after.data, "5") == "15"


def test_a_function_is_pickled_again_when_a_global_is_new(shelf: CodeShelf) -> None:
    function = function_of("def f(x): return FACTOR * x")
    shelf.code(function)
    function.__globals__["FACTOR"] = 3

    assert elsewhere(shelf.code(function).data, "5") == "15"


def test_what_a_function_may_change_is_pickled_as_it_is_now(shelf: CodeShelf) -> None:
    function = function_of("TABLE = [1]\ndef f(x): return TABLE[0] * x")
    before = shelf.code(function)
    assert shelf.code(function).id == before.id
    function.__globals__["TABLE"][0] = 7

    assert elsewhere(shelf.code(function).data, "5") == "35"


def test_a_change_behind_another_function_is_seen(shelf: CodeShelf) -> None:
    function = function_of("N = 2\ndef g(x): return N * x\ndef f(x): return g(x)")
    shelf.code(function)
    function.__globals__["N"] = 3

    assert elsewhere(shelf.code(function).data, "5") == "15"


def test_a_closure_is_pickled_with_its_present_value(shelf: CodeShelf) -> None:
    function = function_of(
        "def outer():\n"
        " n = 2\n"
        " def f(x): return n * x\n"
        " def change():\n"
        "  nonlocal n\n"
        "  n = 3\n"
        " f.change = change\n"
        " return f\n"
        "f = outer()\n"
    )
    change = function.__dict__.pop("change")
    shelf.code(function)
    change()

    assert elsewhere(shelf.code(function).data, "5") == "15"


def test_functions_that_are_gone_are_forgotten(shelf: CodeShelf) -> None:
    function = function_of("def f(x): return x")
    shelf.code(function)
    assert shelf._kept

    del function
    gc.collect()

    assert not shelf._kept


def test_a_chunked_function_is_kept_apart_from_the_plain_one(shelf: CodeShelf) -> None:
    function = function_of("def f(x): return x + 1")

    plain, chunked = shelf.code(function), shelf.code(ChunkCall(function))

    assert plain.id != chunked.id
    assert shelf.code(ChunkCall(function)) is chunked
    assert elsewhere(chunked.data, "[(1,), (2,)]") == "[2, 3]"


def test_the_users_own_modules_go_along(project: Path) -> None:
    own_work = importlib.import_module("own_work")
    modules = LocalModules((project,))
    before = cloudpickle.list_registry_pickle_by_value()

    code = CodeShelf(modules).code(own_work.work)

    assert elsewhere(code.data, "5") == "18"
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_objects_of_the_users_own_classes_go_along_and_come_back_as_they_were(
    project: Path,
) -> None:
    own_work = importlib.import_module("own_work")
    modules = LocalModules((project,))
    with modules.by_value():
        pickled = cloudpickle.dumps(own_work.Point(7))

    command = [
        sys.executable,
        "-c",
        "import cloudpickle, sys; p = cloudpickle.load(sys.stdin.buffer); "
        "p.x += 1; sys.stdout.buffer.write(cloudpickle.dumps(p))",
    ]
    answer = subprocess.run(command, input=pickled, capture_output=True, check=True, cwd="/")

    assert cloudpickle.loads(answer.stdout) == own_work.Point(8)


def test_a_module_imported_later_is_found_too(project: Path) -> None:
    modules = LocalModules((project,))
    assert modules.find() == ()

    own_work = importlib.import_module("own_work")

    assert own_work in modules.find()


def test_installed_modules_and_our_own_are_not_the_users() -> None:
    root = Path(__file__).parents[3]
    found = {module.__name__ for module in LocalModules((root, Path(sys.prefix))).find()}

    assert not {name for name in found if name.startswith(("lineshaft", "pydantic", "json"))}


def test_a_call_is_described_for_the_coordinator(shipper: Shipper) -> None:
    function = function_of("def f(x): return x")
    options = Options(name="mine", retries=2, priority=5)

    first = shipper.call(function, (1,), {}, options)
    second = shipper.call(function, (2,), {}, Options())

    assert (first.spec.name, first.spec.retries, first.spec.priority) == ("mine", 2, 5)
    assert (second.spec.name, second.spec.python, second.spec.kind) == ("f", PYTHON, "function")
    assert first.spec.job_id != second.spec.job_id
    assert first.spec.code == second.spec.code == first.blobs[0].id


def test_large_arguments_go_as_a_blob_and_small_ones_inline(shipper: Shipper) -> None:
    small = shipper.call(len, (b"x",), {}, Options())
    large = shipper.call(len, (bytes(INLINE_BYTES_MAX),), {}, Options())

    assert small.spec.payload.inline is not None
    assert len(small.blobs) == 1
    assert large.spec.payload.blob == large.blobs[1].id
    assert large.spec.payload.size_bytes == len(large.blobs[1].data)


def test_arguments_are_taken_as_they_are_now(shipper: Shipper) -> None:
    array = np.zeros(INLINE_BYTES_MAX)
    prepared = shipper.call(len, (array,), {}, Options())

    array[:] = 7

    args, _ = unpack(prepared.blobs[1].data)
    assert np.array_equal(args[0], np.zeros(INLINE_BYTES_MAX))


def test_what_cannot_be_sent_is_named(shipper: Shipper) -> None:
    function = function_of("def f(): return lock", lock=threading.Lock())

    with pytest.raises(CannotPackError, match=r"global 'lock' of function 'f'"):
        shipper.call(function, (), {}, Options())
    with pytest.raises(CannotPackError, match=r"\['rows'\]\[1\]"):
        shipper.call(len, (), {"rows": [1, threading.Lock()]}, Options())


def test_a_future_among_the_arguments_gets_advice_of_its_own(shipper: Shipper) -> None:
    future: LineshaftFuture[int] = LineshaftFuture("j1", lambda *_: None, None)

    with pytest.raises(CannotPackError, match=r"\[0\]\[0\] of .*Future .*pass its result\(\)"):
        shipper.call(abs, (future,), {}, Options())


def test_an_option_out_of_its_range_is_refused(shipper: Shipper) -> None:
    with pytest.raises(InvalidJobError, match="priority"):
        shipper.call(len, ("",), {}, Options(priority=10_000))


def test_a_call_like_the_last_one_has_what_it_has_itself(shipper: Shipper) -> None:
    plain, urgent = Options(), Options(priority=5)
    double, treble = (lambda x: 2 * x), (lambda x: 3 * x)

    calls = [
        shipper.call(double, (1,), {}, plain),
        shipper.call(double, (2,), {}, plain),
        shipper.call(treble, (2,), {}, plain),
        shipper.call(treble, (2,), {}, urgent),
        shipper.call(treble, (2,), {}, Options(name="named")),
        shipper.call(treble, (b"x" * INLINE_BYTES_MAX,), {}, plain),
        shipper.call(treble, (3,), {}, plain),
    ]

    specs = [call.spec for call in calls]
    assert len({spec.job_id for spec in specs}) == len(calls)
    assert specs[0].code == specs[1].code != specs[2].code
    assert len({spec.code for spec in specs[2:]}) == 1
    assert [spec.priority for spec in specs] == [0, 0, 0, 5, 0, 0, 0]
    assert [spec.name == "named" for spec in specs].index(True) == 4
    packed = [spec.payload.inline_bytes() for spec in specs if spec.payload.inline is not None]
    arguments = [unpack(each) for each in packed]
    assert arguments == [((each,), {}) for each in (1, 2, 2, 2, 2, 3)]
    # The first of the blobs is the code: who submits must send the function that is called.
    assert [call.blobs[0].id for call in calls] == [spec.code for spec in specs]


def test_a_function_whose_global_changed_is_another_call(shipper: Shipper) -> None:
    options, function = Options(), function_of("FACTOR = 2\ndef f(x): return FACTOR * x")
    before = shipper.call(function, (1,), {}, options)
    function.__globals__["FACTOR"] = 3

    after = shipper.call(function, (1,), {}, options)

    assert before.spec.code != after.spec.code
    assert [blob.id for blob in after.blobs] == [after.spec.code]
