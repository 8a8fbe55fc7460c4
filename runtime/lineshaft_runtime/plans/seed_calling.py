"""Calls filters of upstream users, by upstream's rules for what becomes what.

Between nodes flow the seed protocol's values, not Python objects: a filter sees exactly what it
would see upstream. Inputs follow the newest dialect (a tensor is nested lists), and so do results;
where an old dialect drops something in silence, nothing is dropped here.
"""

import base64
import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeGuard, cast

import cloudpickle
from pydantic import JsonValue

from lineshaft_protocol.seed.values import (
    Bytes,
    Empty,
    Json,
    Object,
    Packed,
    Tensor,
    Text,
    Value,
    from_base64,
)
from lineshaft_protocol.seed.wire import Dialect
from lineshaft_runtime.packing import unpack
from lineshaft_runtime.plans.calling import is_end, json_label, second_parameter
from lineshaft_runtime.plans.errors import PlanShapeError, ValueNotSendableError

PICKLE_KEY: Final = "__pickle_b64__"
"""The only key of the JSON object that upstream puts around a pickle."""

_EXACT_MAX: Final = 2**53
_JSON_DEPTH_MAX: Final = 48
"""Deeper results are pickled: peers refuse JSON documents of more than 64 levels as a whole."""


class SeedCalling:
    """The convention of upstream's filters, with values of the seed protocol between them.

    Args:
        trainable: What the plan says of each node; the filter itself is not asked.
        dialect: Whose reader the results are for; only C has a value for text.
    """

    def __init__(self, trainable: Mapping[str, bool], *, dialect: Dialect) -> None:
        self._trainable = trainable
        self._dialect: Dialect = dialect

    def is_trainable(self, node_id: str, node_filter: object) -> bool:
        """Whether the plan says so."""
        del node_filter
        return self._trainable.get(node_id, False)

    def fit(self, node_filter: object, x: object, y: object) -> object:
        """Call `fit` and return the state as a value."""
        fit = cast("Callable[..., object]", getattr(node_filter, "fit"))  # noqa: B009 - any class
        labels = None if y is None or isinstance(y, Empty) else argument(y)
        if second_parameter(fit, "y") == "refused":
            return self.value(fit(argument(x)))
        return self.value(fit(argument(x), labels))

    def forward(self, node_filter: object, x: object, state: object) -> object:
        """Call `forward` and return its result as a value."""
        forward = cast("Callable[..., object]", getattr(node_filter, "forward"))  # noqa: B009
        if second_parameter(forward, "state") == "refused":
            return self.value(forward(argument(x)))
        return self.value(forward(argument(x), argument(Empty() if state is None else state)))

    def join(self, values: tuple[object, ...]) -> object:
        """Give several inputs as a list."""
        return values

    def join_fork(self, outputs: Mapping[str, object]) -> object:
        """Give all by name, as clients of C have it at home; others know no such thing."""
        return outputs if self._dialect == "C" else tuple(outputs.values())[-1]

    def ends_loop(self, value: object) -> bool:
        """Whether it is empty, or JSON or text that says so."""
        match value:
            case Empty():
                return True
            case Json(data=data) | Text(data=data):
                return is_end(data)
            case _:
                return False

    def label(self, value: object) -> str | None:
        """Return the label in a JSON value or text."""
        match value:
            case Json(data=data) | Text(data=data):
                return json_label(data)
            case _:
                return None

    def handed_on(self, value: object) -> object:
        """Hand on everything as it is."""
        return value

    def for_arm(self, x: object, output: object) -> object:
        """Give what the choosing node got, as workers of C do; others give what it said."""
        return x if self._dialect == "C" else output

    def chunks(self, value: object, size: int) -> Sequence[object]:
        """Cut tensors along their first axis, and JSON lists."""
        match value:
            case Tensor(values=values, shape=(rows, *inner)) if value.is_complete():
                width = math.prod(inner)
                return [
                    Tensor(
                        values=values[start * width : (start + size) * width],
                        shape=(min(size, rows - start), *inner),
                    )
                    for start in range(0, max(rows, 1), size)
                ]
            case Json(data=list() as items):
                starts = range(0, max(len(items), 1), size)
                return [Json(data=items[start : start + size]) for start in starts]
            case _:
                return [value]

    def concatenate(self, chunks: Sequence[object]) -> object:
        """Concatenate tensors of one kind of rows, and JSON lists; make a list of anything else."""
        if len(chunks) == 1:
            return chunks[0]
        if _are_rows(chunks):
            return Tensor(
                values=tuple(itertools.chain.from_iterable(each.values for each in chunks)),
                shape=(sum(each.shape[0] for each in chunks), *chunks[0].shape[1:]),
            )
        arguments = [argument(each) for each in chunks]
        if all(isinstance(each, Json) for each in chunks) and _are_lists(arguments):
            return self.value([item for each in arguments for item in each])
        return self.value(arguments)

    def value(self, result: object) -> Value:
        """Turn what a filter returned into a value, without losing anything.

        Raises:
            ValueNotSendableError: It holds NaN or an infinity, which JSON cannot carry.
        """
        if result is None:
            return Empty()
        tensor = _tensor(result)
        if tensor is not None:
            return tensor
        if not _is_tuple(result) and _is_json(result, 0):
            is_text = isinstance(result, str) and self._dialect == "C"
            return Text(data=str(result)) if is_text else Json(data=_listed(result))
        pickled: bytes = cloudpickle.dumps(result, protocol=5)  # pyright: ignore[reportUnknownMemberType]
        return Json(data={PICKLE_KEY: base64.b64encode(pickled).decode()})


def argument(value: object) -> object:
    """Turn a value (or several, joined) into what a filter is called with.

    Raises:
        PlanShapeError: It is no value.
    """
    match value:
        case Tensor():
            return _nested(value)
        case Json(data={"__pickle_b64__": str() as pickled, **rest}) if not rest:
            data = cast("bytes", from_base64(pickled))
            return cast("object", pickle.loads(data))  # noqa: S301 - only runners unpickle
        case Json(data=data) | Bytes(data=data) | Text(data=data):
            return data
        case Empty():
            return {"type": "Empty"}  # As upstream's filters know it, in every dialect.
        case Object(data=data):
            return cast("object", pickle.loads(data))  # noqa: S301 - only runners unpickle
        case Packed(data=data):
            return unpack(data)
        case tuple():
            return [argument(each) for each in cast("tuple[object, ...]", value)]
        case Mapping():
            named = cast("Mapping[str, object]", value)
            return {name: argument(each) for name, each in named.items()}
        case _:
            raise PlanShapeError(f"a {type(value).__name__} is no value of the plan protocol")


def _nested(tensor: Tensor) -> object:
    if not tensor.is_complete():
        # No peer checks the shape; the numbers are all that is certain.
        return list(tensor.values)
    if not tensor.shape:
        return tensor.values[0]
    level: list[object] = list(tensor.values)
    for axis in range(len(tensor.shape) - 1, 0, -1):
        size = tensor.shape[axis]
        count = math.prod(tensor.shape[:axis])
        level = [level[index * size : (index + 1) * size] for index in range(count)]
    return level


def _is_tuple(value: object) -> bool:
    return isinstance(value, tuple)


def _tensor(result: object) -> Tensor | None:
    """Return numbers, or equally long rows of numbers, as a tensor; `None` if it is neither."""
    if not isinstance(result, list) or not result:
        return None
    rows = cast("list[object]", result)
    if _are_numbers(rows):
        return _finite_tensor(rows, (len(rows),))
    if not _are_lists(rows) or not all(row and _are_numbers(row) for row in rows):
        return None
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        return None
    return _finite_tensor(itertools.chain.from_iterable(rows), (len(rows), width))


def _finite_tensor(numbers: object, shape: tuple[int, ...]) -> Tensor:
    values = tuple(map(float, cast("Iterator[float]", numbers)))
    if not all(map(math.isfinite, values)):
        raise _not_finite()
    return Tensor(values=values, shape=shape)


def _are_numbers(items: list[object]) -> bool:
    """Whether a tensor can hold the items exactly; a bool is no number, as upstream."""
    kinds = set(map(type, items))
    if kinds <= {float}:
        return True
    return all(
        isinstance(item, float)
        or (isinstance(item, int) and not isinstance(item, bool) and abs(item) <= _EXACT_MAX)
        for item in items
    )


def _are_lists(items: Sequence[object]) -> TypeGuard[list[list[object]]]:
    return all(isinstance(item, list) for item in items)


def _are_rows(chunks: Sequence[object]) -> TypeGuard[Sequence[Tensor]]:
    shapes = {
        chunk.shape[1:] if isinstance(chunk, Tensor) and chunk.shape and chunk.is_complete() else 0
        for chunk in chunks
    }
    return len(shapes) == 1 and 0 not in shapes


def _is_json(value: object, depth: int) -> TypeGuard[JsonValue]:
    """Whether JSON can carry it there and back; inside of it a tuple may become a list.

    Raises:
        ValueNotSendableError: There is a number in it that is not finite.
    """
    match value:
        case None | bool():
            return True
        case str():
            return value.isprintable() or value.encode(errors="replace").decode() == value
        case int():
            return -(2**63) <= value < 2**64
        case float():
            if not math.isfinite(value):
                raise _not_finite()
            return True
        case list() | tuple() if depth < _JSON_DEPTH_MAX:
            return all(_is_json(item, depth + 1) for item in cast("Sequence[object]", value))
        case dict() if depth < _JSON_DEPTH_MAX:
            items = cast("dict[object, object]", value).items()
            return all(isinstance(key, str) and _is_json(item, depth + 1) for key, item in items)
        case _:
            return False


def _listed(value: object) -> JsonValue:
    """Return what JSON can carry, but for the tuples in it, with lists for them."""
    match value:
        case list() | tuple():
            return [_listed(each) for each in cast("Sequence[object]", value)]
        case dict():
            return {key: _listed(each) for key, each in cast("dict[str, object]", value).items()}
        case _:
            return cast("JsonValue", value)


def _not_finite() -> ValueNotSendableError:
    return ValueNotSendableError(
        "the result holds NaN or an infinity, which the plan protocol's JSON cannot carry; "
        "replace it in the filter, as by None"
    )
