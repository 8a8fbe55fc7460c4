"""How a node's filter is called with Python objects, and what its outputs mean to a plan.

The executor knows nothing of the values that flow; a `Calling` does. `NativeCalling` is ours, for
Python objects; `seed_calling.SeedCalling` serves filters of upstream users.
"""

import copy
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, cast

from lineshaft_runtime.overriding import override

BARRIER = "barrier"
"""A filter whose `_stream_mode` says so sees the whole input, never a chunk."""


class Calling(Protocol):
    """The convention between a plan and its filters."""

    def is_trainable(self, node_id: str, node_filter: object) -> bool:
        """Whether the node is fitted in a fit."""
        ...

    def fit(self, node_filter: object, x: object, y: object) -> object:
        """Train, and return the state."""
        ...

    def forward(self, node_filter: object, x: object, state: object) -> object:
        """Return the output for an input; no state is `None`."""
        ...

    def join(self, values: tuple[object, ...]) -> object:
        """Return the input of a node with several predecessors, given in the order of its edges."""
        ...

    def join_fork(self, outputs: Mapping[str, object]) -> object:
        """Return what the node after a fork of single nodes gets, where no edges tell.

        Args:
            outputs: Of each of them by its name, in the order of the plan.
        """
        ...

    def ends_loop(self, value: object) -> bool:
        """Whether a value says that a loop is over."""
        ...

    def label(self, value: object) -> str | None:
        """Return which arm of a branch a value chooses; `None` chooses the first."""
        ...

    def handed_on(self, value: object) -> object:
        """Return what a branch's arm or a loop's next turn gets of a value that may be a signal."""
        ...

    def for_arm(self, x: object, output: object) -> object:
        """Return what a branch's arm gets: of the input and the output of the node that chose."""
        ...

    def chunks(self, value: object, size: int) -> Sequence[object]:
        """Cut along the first axis; what has none is one chunk."""
        ...

    def concatenate(self, chunks: Sequence[object]) -> object:
        """Put outputs of chunks together again."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Returned by a branch's node: the label of the arm to take, and what the arm gets."""

    label: str
    value: object


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """Returned by a loop's body: stop now, with this value as the loop's output."""

    value: object


class NativeCalling:
    """Calls filters with Python objects as they are.

    `fit(x, y)` gets the labels if its second parameter is required or some parameter is named
    `y`, else only `x`. `forward(x, state)` gets the state if its second parameter is required or
    named `state`. A filter that has `fit` but whose `forward` takes no state keeps what it learns
    on itself: it is copied before it is fitted, and the copy is the state.
    """

    def __init__(self) -> None:
        self._takes: dict[tuple[object, str], _Second] = {}

    @override
    def __reduce__(self) -> tuple[type["NativeCalling"], tuple[()]]:
        """Travel without what was looked up: those are the user's functions."""
        return NativeCalling, ()

    def is_trainable(self, node_id: str, node_filter: object) -> bool:
        """Whether it has `fit` and does not call itself stateless."""
        del node_id
        return (
            callable(getattr(node_filter, "fit", None))
            and getattr(node_filter, "_kind", "trainable") != "stateless"
        )

    def fit(self, node_filter: object, x: object, y: object) -> object:
        """Call `fit` and return the state."""
        keeps_state_itself = self._second(node_filter, "forward", "state") == "refused"
        if keeps_state_itself:
            node_filter = copy.deepcopy(node_filter)
        state = self._call(node_filter, "fit", "y", x, y)
        return node_filter if keeps_state_itself else state

    def forward(self, node_filter: object, x: object, state: object) -> object:
        """Call `forward`, on the fitted copy if there is one."""
        if state is not None and self._second(node_filter, "forward", "state") == "refused":
            node_filter = state
        return self._call(node_filter, "forward", "state", x, state)

    def join(self, values: tuple[object, ...]) -> object:
        """Give several inputs as a tuple."""
        return values

    def join_fork(self, outputs: Mapping[str, object]) -> object:
        """Give the last one: our own plans have edges."""
        return tuple(outputs.values())[-1]

    def ends_loop(self, value: object) -> bool:
        """Whether it is `Done`, `None`, `True`, "done", "stop" or has `"done": True`."""
        return isinstance(value, Done) or value is None or is_end(scalar(value))

    def label(self, value: object) -> str | None:
        """Return the label of a `Choice`, or by the seed's rules for plain JSON values."""
        if isinstance(value, Choice):
            return value.label
        value = scalar(value)
        if isinstance(value, str | bool | int | float | Mapping | list) or value is None:
            return json_label(cast("object", value))
        return None

    def handed_on(self, value: object) -> object:
        """Unwrap `Choice` and `Done`."""
        return value.value if isinstance(value, Choice | Done) else value

    def for_arm(self, x: object, output: object) -> object:
        """Give what the node chose it for."""
        del x
        return self.handed_on(output)

    def chunks(self, value: object, size: int) -> Sequence[object]:
        """Cut lists, arrays, tensors and data frames; a tuple is several inputs, and left whole."""
        kind = type(value)
        if kind is not list and getattr(value, "shape", ()) == ():
            return [value]
        length = len(cast("Sequence[object]", value))
        cut = cast("Sequence[object]", getattr(value, "iloc", value))
        # An empty input is one empty chunk, so that the output has its usual type.
        return [cut[start : start + size] for start in range(0, max(length, 1), size)]

    def concatenate(self, chunks: Sequence[object]) -> object:
        """Concatenate what `chunks` cuts; of anything else make a list, an item per chunk."""
        first = chunks[0]
        if len(chunks) == 1:
            return first
        match first:
            case list():
                return [item for chunk in chunks for item in cast("Iterable[object]", chunk)]
            case _:
                concatenate = _concatenation(first)
                if concatenate is None or getattr(first, "shape", None) == ():
                    return list(chunks)
                return concatenate(chunks)

    def _call(
        self, node_filter: object, method: str, second: str, x: object, extra: object
    ) -> object:
        function = cast("Callable[..., object]", getattr(node_filter, method))
        match self._second(node_filter, method, second):
            case "positional":
                return function(x, extra)
            case "keyword":
                return function(x, **{second: extra})
            case "refused":
                return function(x)

    def _second(self, node_filter: object, method: str, name: str) -> "_Second":
        function = getattr(node_filter, method)
        key = (getattr(function, "__func__", function), name)
        if key not in self._takes:
            self._takes[key] = second_parameter(function, name)
        return self._takes[key]


_Second = Literal["positional", "keyword", "refused"]


def second_parameter(function: Callable[..., object], name: str) -> _Second:
    """Return how a function wants the argument of that name after its first one."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):  # Some builtins have no signature.
        return "refused"
    for index, parameter in enumerate(parameters):
        match parameter.kind:
            case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD:
                is_named = parameter.name == name
                is_required = parameter.default is parameter.empty
                if index == 0 and (is_named or is_required):
                    return "positional"
                if is_named and parameter.kind is not parameter.POSITIONAL_ONLY:
                    return "keyword"
            case parameter.VAR_POSITIONAL:
                return "positional"
            case parameter.KEYWORD_ONLY if parameter.name == name:
                return "keyword"
            case _:
                pass
    return "refused"


def is_end(value: object) -> bool:
    """Whether a JSON value ends a loop, in the seed protocol."""
    match value:
        case bool():
            return value
        case str():
            return value in {"done", "stop"}
        case Mapping():
            return scalar(cast("Mapping[object, object]", value).get("done")) is True
        case _:
            return False


def json_label(value: object) -> str:
    """Return the label that a JSON value chooses, in the seed protocol."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case {"branch": str() | bool() as chosen}:
            return json_label(chosen)
        case _:
            return "true"


def scalar(value: object) -> object:
    """Turn a NumPy or torch scalar into Python's: a comparison of arrays gives such a bool."""
    if type(value).__module__ in {"numpy", "torch"} and getattr(value, "shape", None) == ():
        return cast("Callable[[], object]", getattr(value, "item"))()  # noqa: B009 - any type
    return value


def _concatenation(of: object) -> Callable[[Sequence[object]], object] | None:
    # Only a library that made the value is asked, so none is imported here.
    for module_name, class_name, function_name in _CONCATENATIONS:
        module = sys.modules.get(module_name)
        if module is not None and isinstance(of, cast("type", getattr(module, class_name))):
            return cast("Callable[[Sequence[object]], object]", getattr(module, function_name))
    return None


_CONCATENATIONS = (
    ("numpy", "ndarray", "concatenate"),
    ("torch", "Tensor", "cat"),
    ("pandas", "DataFrame", "concat"),
    ("pandas", "Series", "concat"),
)
