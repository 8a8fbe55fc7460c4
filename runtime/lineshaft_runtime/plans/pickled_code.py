"""Whether this Python can run the functions in a pickle; looked at without loading it.

A pickled function is bytecode, which each minor version of Python has in its own way, and a pickle
does not say whose it is. Run by another version it ends the process, with luck at once.
"""

import opcode
import pickletools
from collections import deque
from collections.abc import Iterator
from typing import Final

_INTEGERS: Final = frozenset(("BININT", "BININT1", "BININT2", "LONG1"))
_BYTES: Final = frozenset(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"))
_GETS: Final = frozenset(("BINGET", "LONG_BINGET"))
_CODE_TYPE: Final = "types.CodeType"
_CALL: Final = (_CODE_TYPE, "MARK", *6 * ("integer",))
"""What stands before the bytecode."""
_STEPS_MAX: Final = 200_000
"""A pickle of so many steps takes a second to look through; the functions come early."""


def is_of_this_python(pickled: bytes) -> bool:
    """Whether all functions in a pickle that can be found are of this minor version of Python."""
    return all(is_bytecode(each) for each in _bytecodes(pickled))


def is_bytecode(code: bytes) -> bool:
    """Whether bytes are instructions of this version, each followed by its own empty caches."""
    if not hasattr(opcode, "_inline_cache_entries"):
        return True  # A later Python: there is no other way to tell.
    has_begun, at = False, 0
    while at < len(code):
        name = opcode.opname[code[at]]
        if name.startswith("<") or name == "CACHE":
            return False
        has_begun = has_begun or name == "RESUME"
        after = at + 2 + 2 * _cache_count(code[at])
        if any(code[at + 2 : after]):
            return False
        at = after
    return has_begun and at == len(code)


def _bytecodes(pickled: bytes) -> Iterator[bytes]:
    """Find the seventh argument of each call of `types.CodeType`, as cloudpickle writes it."""
    steps: deque[str] = deque(maxlen=len(_CALL))
    memo_count, code_types = 0, set[object]()
    try:
        for count, (kind, value, _) in enumerate(pickletools.genops(pickled)):
            if count > _STEPS_MAX:
                return
            if kind.name == "FRAME":
                continue
            if kind.name == "MEMOIZE":
                if steps and steps[-1] == _CODE_TYPE:
                    code_types.add(memo_count)
                memo_count += 1
                continue
            if kind.name in _BYTES and tuple(steps) == _CALL and isinstance(value, bytes):
                yield value
            steps.append(_step(kind.name, value, steps, code_types))
    except ValueError:
        return  # It is damaged, and whoever loads it will say so.


def _step(name: str, value: object, before: deque[str], code_types: set[object]) -> str:
    if value == "CodeType":
        return "its name"
    if name == "REDUCE" and tuple(before)[-2:] == ("its name", "TUPLE1"):
        return _CODE_TYPE
    if name in _GETS and value in code_types:
        return _CODE_TYPE
    return "integer" if name in _INTEGERS else name


def _cache_count(code: int) -> int:
    entries: list[int] | dict[str, int] = getattr(opcode, "_inline_cache_entries")  # noqa: B009
    return entries.get(opcode.opname[code], 0) if isinstance(entries, dict) else entries[code]
