"""Pipelines: filters one after the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from lineshaft.filters import Expression, Target, expression, node
from lineshaft.fitted import Fitted
from lineshaft.graph import Compiled, Graph
from lineshaft.graph_errors import NoStepError

if TYPE_CHECKING:
    from lineshaft.requirements import RequirementsLike

StepOf: TypeAlias = tuple[str, object] | Expression


class Pipeline:
    """Filters, functions or estimators, each fed by the one before.

        pipeline = Pipeline([("scale", StandardScaler()), ("model", Model())])
        fitted = pipeline.fit(x, y)
        labels = fitted.forward(x_test)

    Args:
        steps: Names with what to run; or expressions, as `node("model", Model(), target="gpu")`.
        target: Where all named steps run: a tag, a worker, or (`None`) wherever the plan runs.
        requirements: What workers install for it, beside what its filters have in an attribute
            `requirements`; see `JobOptions`. In this process nothing is installed.

    Raises:
        DuplicateNodeError: Two steps have one name.
        EmptyGraphError: There are none (when it is compiled).
        NoStepError: One is no pair of a name and what to run.
        RequirementsError: A requirement cannot be read.
    """

    def __init__(
        self,
        steps: Sequence[StepOf],
        *,
        target: Target = None,
        requirements: "RequirementsLike | None" = None,
    ) -> None:
        self._graph = Graph()
        if not steps:
            return
        first, *others = (_step(each, target) for each in steps)
        whole = expression(first)
        for each in others:
            whole = whole >> each
        self._graph = Graph.of(whole)
        if requirements is not None:
            # Only those who name requirements pay for what reads them.
            from lineshaft.requirements import read_requirements  # noqa: PLC0415

            self._graph.needs = read_requirements(requirements)

    @property
    def graph(self) -> Graph:
        """The same as a graph."""
        return self._graph

    def compile(self) -> Compiled:
        """Return the plan and its edges.

        Raises:
            GraphError: A name comes twice, or there are no steps.
        """
        return self._graph.compile()

    def fit(self, x: object, y: object = None) -> Fitted:
        """Fit all trainable steps in this process.

        Raises:
            PlanError: A step failed.
        """
        return self._graph.fit(x, y)

    def forward(self, x: object) -> object:
        """Run the steps in this process without having fitted any.

        Raises:
            PlanError: A step failed.
        """
        return self._graph.forward(x)


def _step(given: object, target: Target) -> Expression:
    if isinstance(given, Expression):
        return given
    match _parts(given):
        case (str(name), subject):
            return node(name, subject, target=target)
        case _:
            raise NoStepError(given)


def _parts(given: object) -> Sequence[object]:
    return cast("Sequence[object]", given) if isinstance(given, list | tuple) else ()
