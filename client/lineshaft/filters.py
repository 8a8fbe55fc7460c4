"""What a pipeline or graph is made of: filters, and how they are written down together.

Anything with `forward(x, state)` or `forward(x)` is a filter; with `fit(x, y)` or `fit(x)`, which
returns the state, it is trainable. `Filter` is a base for those who like to write
`A() >> (B() | C()) >> D()`. Functions and scikit-learn's estimators are wrapped by themselves.
"""

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias, cast

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.seed.plans import (
    BodyTerminal,
    Exhaust,
    LoopCondition,
    RemoteTarget,
    Tag,
    WhenSignaled,
    WorkerId,
)
from lineshaft_runtime.plans.calling import Choice, Done, second_parameter

__all__ = [
    "BodyTerminal",
    "Choice",
    "Done",
    "Estimator",
    "Exhaust",
    "Expression",
    "Filter",
    "Function",
    "LoopCondition",
    "NotAFilterError",
    "Tag",
    "Target",
    "WhenSignaled",
    "WorkerId",
    "adapt",
    "branch",
    "loop",
    "node",
]

Target: TypeAlias = str | RemoteTarget | None
"""Where a node runs: any worker with a tag (a `str` is one), one worker, or (`None`) in place."""


class NotAFilterError(LineshaftError):
    """An object cannot be a node: nobody would know what to call."""

    def __init__(self, subject: object) -> None:
        what = f"{type(subject).__name__} has no forward, transform or predict, and is no function"
        if isinstance(subject, type):
            what = f"{subject.__name__} is a class; pass an object of it: {subject.__name__}(...)"
        super().__init__(what)


class Filter:
    """A base for filters that can be combined with `>>` (then) and `|` (beside).

    Subclasses have `forward(self, x, state)` or `forward(self, x)`, and if they learn,
    `fit(self, x, y)` or `fit(self, x)` that returns the state. Objects should not change in either:
    what they learn is the state.
    """

    _kind: ClassVar[str] = "trainable"
    """"stateless" says that `fit` is not to be called."""
    requirements: ClassVar[Sequence[str]] = ()
    """What workers install for it, as lines of a requirements.txt."""
    _stream_mode: ClassVar[str] = "fixed"
    """"barrier" says that `forward` must see the whole input, never a chunk of it."""

    def __rshift__(self, after: object) -> "Expression":
        """Feed the output to what comes after."""
        return expression(self) >> after

    def __rrshift__(self, before: object) -> "Expression":
        """Take the output of what comes before."""
        return expression(before) >> self

    def __or__(self, beside: object) -> "Expression":
        """Take the same input as the other; what follows gets both outputs, as a tuple."""
        return expression(self) | beside

    def __ror__(self, beside: object) -> "Expression":
        """Take the same input as the other."""
        return expression(beside) | self


@dataclasses.dataclass(frozen=True, slots=True)
class Estimator:
    """An estimator of scikit-learn's kind as a filter; the state is a fitted copy of it."""

    estimator: object
    method: str
    """Which method a forward calls, as "predict", "transform" or "predict_proba"."""

    def fit(self, x: object, y: object = None) -> object:
        """Fit a copy, and return that: the original stays as it is."""
        fitted = copy.deepcopy(self.estimator)
        fit = cast("Callable[..., object]", getattr(fitted, "fit"))  # noqa: B009 - any class
        if second_parameter(fit, "y") == "refused":
            fit(x)
        else:
            fit(x, y)
        return fitted

    def forward(self, x: object, state: object) -> object:
        """Call the method of the fitted copy, or, if nothing was fitted, of the estimator."""
        fitted = self.estimator if state is None else state
        return cast("Callable[[object], object]", getattr(fitted, self.method))(x)


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function of one argument as a filter that learns nothing."""

    function: Callable[[object], object]

    def forward(self, x: object) -> object:
        """Call the function."""
        return self.function(x)


def adapt(subject: object, *, is_last: bool) -> object:
    """Return what to run for an object that somebody put into a pipeline.

    An estimator is asked to `predict` if it stands last and can, else to `transform` if it can,
    else to `predict`; `Estimator(..., method=...)` says it explicitly.

    Args:
        subject: A filter, which is returned as it is, an estimator or a function.
        is_last: Whether its output is the output of the whole.

    Raises:
        NotAFilterError: It is none of these.
    """
    if isinstance(subject, type) and any(hasattr(subject, name) for name in _METHODS):
        raise NotAFilterError(subject)
    if callable(getattr(subject, "forward", None)):
        return subject
    order = ("predict", "transform") if is_last else ("transform", "predict")
    for method in order:
        if callable(getattr(subject, method, None)):
            return Estimator(subject, method)
    if callable(subject):
        return Function(subject)
    raise NotAFilterError(subject)


@dataclasses.dataclass(frozen=True, slots=True)
class Expression:
    """Filters put together with `>>` and `|`; `Graph.of` and `Pipeline` take it."""

    part: "Part"

    def __rshift__(self, after: object) -> "Expression":
        """Feed the output to what comes after."""
        return Expression(Chain((*_links(self.part), *_links(expression(after).part))))

    def __rrshift__(self, before: object) -> "Expression":
        """Take the output of what comes before."""
        return expression(before) >> self

    def __or__(self, beside: object) -> "Expression":
        """Take the same input as the other; what follows gets both outputs, as a tuple."""
        return Expression(Fork((*_arms(self.part), *_arms(expression(beside).part))))

    def __ror__(self, beside: object) -> "Expression":
        """Take the same input as the other."""
        return expression(beside) | self


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """One node."""

    node_id: str | None
    """`None` gets a name after the filter's class."""
    filter: object
    target: Target


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """One after the other."""

    links: tuple["Part", ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Fork:
    """Beside each other."""

    arms: tuple["Part", ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Looped:
    """Again and again."""

    node_id: str | None
    body: "Part"
    max_iterations: int | None
    until: LoopCondition
    carry_from: str | None
    target: Target


@dataclasses.dataclass(frozen=True, slots=True)
class Branched:
    """One of several."""

    condition: Named
    arms: tuple[tuple[str, "Part"], ...]


Part: TypeAlias = Named | Chain | Fork | Looped | Branched


def expression(subject: object) -> Expression:
    """Return a filter, function or estimator as an expression; an expression as it is."""
    return subject if isinstance(subject, Expression) else Expression(Named(None, subject, None))


def node(node_id: str, subject: object, *, target: Target = None) -> Expression:
    """Name a node, and say where it runs."""
    return Expression(Named(node_id, subject, target))


def loop(
    body: object,
    *,
    node_id: str | None = None,
    max_iterations: int | None = None,
    until: str | LoopCondition | None = None,
    carry_from: str | None = None,
    target: Target = None,
) -> Expression:
    """Feed the output of the body back into it.

    Args:
        body: What to repeat.
        node_id: What to call it.
        max_iterations: The most turns; `None` means 100.
        until: The node of the body that says when to stop; `None` means its last one. It stops by
            giving `Done(value)`, `True`, "done", "stop", `{"done": True}` or `None`.
        carry_from: The node whose output goes into the next turn, and is the loop's output in the
            end; `None` means the last one.
        target: Where the whole loop runs.
    """
    condition = condition_of(until)
    part = expression(body).part
    return Expression(Looped(node_id, part, max_iterations, condition, carry_from, target))


def branch(
    condition: object,
    arms: Mapping[str, object],
    *,
    node_id: str | None = None,
    target: Target = None,
) -> Expression:
    """Let a node choose which arm goes on.

    Args:
        condition: Returns `Choice(label, value)`, and the arm gets the value; or a plain label,
            bool or object with a "branch", which the arm gets as it is.
        arms: What to run, by label. An unknown label takes "default", "else", or the first.
        node_id: What to call it.
        target: Where condition and arm run.
    """
    parts = tuple((label, expression(arm).part) for label, arm in arms.items())
    return Expression(Branched(Named(node_id, condition, target), parts))


def condition_of(until: str | LoopCondition | None) -> LoopCondition:
    """Return when a loop ends; the name of a node means: when that node says so."""
    match until:
        case None:
            return BodyTerminal()
        case str():
            return WhenSignaled(node=until)
        case _:
            return until


def _links(part: Part) -> tuple[Part, ...]:
    return part.links if isinstance(part, Chain) else (part,)


def _arms(part: Part) -> tuple[Part, ...]:
    return part.arms if isinstance(part, Fork) else (part,)


_METHODS: tuple[Literal["forward", "fit", "transform", "predict"], ...] = (
    "forward",
    "fit",
    "transform",
    "predict",
)


def given_names(part: Part) -> Iterator[str]:
    """List the names that somebody gave to nodes of a part."""
    match part:
        case Chain(links=parts) | Fork(arms=parts):
            for each in parts:
                yield from given_names(each)
        case Looped(body=body):
            if part.node_id is not None:
                yield part.node_id
            yield from given_names(body)
        case Branched(condition=condition, arms=arms):
            yield from given_names(condition)
            for _, arm in arms:
                yield from given_names(arm)
        case Named(node_id=node_id):
            if node_id is not None:
                yield node_id


def class_name(subject: object) -> str:
    """Return what to call a node that was given no name."""
    if isinstance(subject, Estimator):
        subject = subject.estimator
    named = subject if inspect.isroutine(subject) else type(subject)
    return named.__name__.strip("<>").lower()
