"""Functions of another Python are noticed in a pickle, and those of this one never taken for it."""

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import cloudpickle
import pytest
from tests.unit.plans.plan_bench import execute

from lineshaft_runtime.packing import PackingError
from lineshaft_runtime.plans.pickled_code import is_bytecode, is_of_this_python
from lineshaft_runtime.plans.work import execute_payload

# What `def forward(self, x, state=None): return [v * 2 for v in x]` is compiled to.
COMPILED = {
    (3, 11): "9700640184007c014400a6000000ab0000000000000000005300",
    (3, 12): "97007c0144008f036302670063025d0700007d037c0364017a05000091028c09040063027d035300"
    "6302010063027d037700",
    (3, 13): "950055011300560373022f007302480700006f3353012d05000050024d0900000b00200073026e03"
    "24007302200073026e036600",
}
OTHERS = [
    bytes.fromhex(code) for version, code in COMPILED.items() if version != sys.version_info[:2]
]


class Doubler:
    def __init__(self) -> None:
        self.numbers = (1, 2, 3, 4, 5, 6, b"no code at all")

    def forward(self, x, state=None):
        return [v * 2 for v in x]


def pickled_filter() -> bytes:
    """As a program pickles a class of its own script."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(Doubler(), protocol=5)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def foreign_filter(code: bytes) -> bytes:
    """The same as another Python pickles it, as far as that can be told."""
    own, pickled = Doubler.forward.__code__.co_code, pickled_filter()
    assert pickled.count(b"C" + bytes((len(own),)) + own) == 1
    # Read opcode by opcode, the length of the frame around it does not matter.
    return pickled.replace(b"C" + bytes((len(own),)) + own, b"C" + bytes((len(code),)) + code)


def _functions(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _functions(each)


def test_all_that_this_python_compiles_is_its_own() -> None:
    sources = sorted(Path(asyncio.__file__).parent.glob("*.py"))

    for source in sources:
        compiled = compile(source.read_text(), str(source), "exec")
        assert all(map(is_bytecode, _functions(compiled))), source


@pytest.mark.parametrize("code", OTHERS, ids=bytes.hex)
def test_what_another_python_compiled_is_not(code: bytes) -> None:
    assert not is_bytecode(code)


def test_bytes_that_are_no_code_are_left_alone() -> None:
    assert is_of_this_python(pickled_filter())
    assert is_of_this_python(b"damaged")


@pytest.mark.parametrize("code", OTHERS, ids=bytes.hex)
def test_a_filter_of_another_python_is_refused_with_advice(code: bytes) -> None:
    plan = {
        "plan_id": "p", "plan": execute("d")[0], "mode": "Forward", "metadata": None,
        "input": {"source": "Inline", "value": {"type": "Empty"}},
        "filters": [
            {"node_id": "d", "pickled_filter": base64.b64encode(foreign_filter(code)).decode()}
        ],
    }  # fmt: skip

    with pytest.raises(PackingError, match=r"'d' was pickled by another version of Python than"):
        execute_payload(json.dumps(plan).encode())
