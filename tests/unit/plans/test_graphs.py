"""Graphs and pipelines: what they compile to, and the same right values here and remotely.

scikit-learn is imported by the tests that need it: every process that collects tests imports this
file, and scikit-learn would be a quarter of all that it imports.
"""

import pickle
import re
import threading

import numpy as np
import pytest
from tests.unit.plans.plan_bench import Call, PlanBench, assert_same, execute, parallel, sequence

from lineshaft.filters import (
    Choice,
    Done,
    Estimator,
    Exhaust,
    Filter,
    NotAFilterError,
    Tag,
    WorkerId,
    branch,
    loop,
    node,
)
from lineshaft.fitted import Fitted, graph_payload, run_graph
from lineshaft.graph import Graph
from lineshaft.graph_errors import (
    DuplicateEdgeError,
    DuplicateNodeError,
    EmptyGraphError,
    GraphCycleError,
    NoStepError,
    UnknownNodeError,
)
from lineshaft.pipeline import Pipeline
from lineshaft_runtime.packing import CannotPackError
from lineshaft_runtime.plans.errors import NodeFailedError, PlanShapeError
from lineshaft_runtime.plans.executor import PlanOutcome, RemoteCall
from lineshaft_runtime.plans.work import call_payload, execute_payload, read_outcome


class Times(Filter):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: float) -> float:
        return self.factor * x


class Sum(Filter):
    def forward(self, x: tuple[float, ...], state: object) -> float:
        assert isinstance(x, tuple)
        return sum(x)


class Center(Filter):
    def fit(self, x: np.ndarray, y: object) -> dict[str, object]:
        return {"mean": x.mean(axis=0), "y": y}

    def forward(self, x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
        return x - state["mean"]


class Keep:
    """Runs remote parts the way a worker does: through packed bytes."""

    def __init__(self) -> None:
        self.calls: list[RemoteCall] = []

    def __call__(self, call: RemoteCall) -> PlanOutcome:
        self.calls.append(call)
        return read_outcome(b"".join(execute_payload(b"".join(call_payload(call)), remote=self)))


def diamond(target: str | None = None) -> Graph:
    graph = Graph()
    for name, factor in (("a", 1), ("b", 10), ("c", 100), ("unused", 7)):
        graph.node(name, Times(factor), target=target)
    graph.node("d", Call(lambda x: ("d", x)), target=target).edge("a", "b").edge("a", "c")
    return graph.edge("a", "unused").edge("c", "d").edge("b", "d").edge("a", "d")


def test_a_diamond_gives_each_node_its_true_inputs_in_the_order_of_the_edges() -> None:
    compiled = diamond().compile()

    assert compiled.plan.to_wire() == sequence("a", parallel("b", "c", "unused"), "d")
    assert compiled.edges == {
        "a": (), "b": ("a",), "c": ("a",), "unused": ("a",), "d": ("c", "b", "a"),
    }  # fmt: skip
    assert diamond().forward(2) == (14, ("d", (200, 20, 2)))


def test_forks_and_joins_are_written_with_operators() -> None:
    graph = Graph.of(Times(1) >> (Times(10) | Times(100) >> Times(2) | (lambda x: x - 1)) >> Sum())

    assert graph.compile().edges == {
        "times": (),
        "times-2": ("times",),
        "times-3": ("times",),
        "times-4": ("times-3",),
        "lambda": ("times",),
        "sum": ("times-2", "times-4", "lambda"),
    }
    assert graph.forward(1) == 10 + 200 + 0


def test_functions_can_stand_anywhere_in_an_expression() -> None:
    assert Graph.of(abs >> Times(2)).forward(-3) == 6
    assert Graph.of(Times(2) >> abs).forward(-3) == 6
    assert Graph.of(abs | Times(2)).forward(-3) == (3, -6)
    assert Graph.of((Times(1) | abs) >> (Sum() | len)).forward(-3) == (0, 2)


def test_a_chain_of_means_is_right_a_hundred_times() -> None:
    graph = Graph.of(Times(2) >> Center() >> Center())
    x = np.array([1.0, 2.0, 6.0])

    for _ in range(100):
        fitted = graph.fit(x)
        np.testing.assert_array_equal(fitted.forward(x), [-4.0, -2.0, 6.0])
        assert [state["mean"] for state in fitted.states.values()] == [6.0, 0.0]  # type: ignore[index]


def test_the_labels_reach_every_filter_of_a_graph() -> None:
    fitted = Graph.of(Center() >> (Center() | Center())).fit(np.arange(3.0), y="labels")

    assert [state["y"] for state in fitted.states.values()] == ["labels"] * 3  # type: ignore[index]


def test_loops_and_branches_are_written_as_parts() -> None:
    collatz = branch(
        lambda x: Choice("even" if x % 2 == 0 else "odd", x),
        {"even": lambda x: x // 2, "odd": Times(3) >> (lambda x: x + 1)},
    ) >> (lambda x: Done(x) if x == 1 else x)
    graph = Graph.of(loop(collatz) >> Times(10))

    assert Graph.of(loop(collatz, max_iterations=112)).forward(54) == 1
    assert graph.forward(7) == 10
    assert Graph.of(loop(collatz, max_iterations=2)).forward(7) == 11
    assert Graph.of(loop(Times(2), max_iterations=5, until=Exhaust())).forward(1) == 32


def test_a_loop_takes_the_true_inputs_inside_and_outside() -> None:
    body = node("step", lambda x: x + 3) >> (
        node("big", lambda x: x > 10) | node("other", Times(0))
    )
    graph = Graph().node("start", Times(1)).node("end", Sum())
    graph.loop("loop", body, until="big", carry_from="step")
    graph.edge("start", "loop").edge("loop", "end").edge("start", "end")

    assert graph.forward(1) == 13 + 1


def test_the_arm_of_a_branch_sees_what_the_condition_handed_on() -> None:
    arms = {"b": Times(10) | Times(100), "a": node("times-2", Times(1))}
    graph = Graph().branch("choose", lambda x: Choice("b", x + 1), arms)
    graph.node("after", Sum()).edge("choose", "after")

    assert graph.forward(1) == 220
    assert list(graph.compile().edges) == ["choose", "times", "times-3", "times-2", "after"]


def test_what_cannot_be_compiled_is_named() -> None:
    two = Graph().node("a", abs).node("b", abs).edge("a", "b")

    with pytest.raises(DuplicateNodeError, match="'a'"):
        two.node("a", abs)
    with pytest.raises(DuplicateEdgeError):
        two.edge("a", "b")
    with pytest.raises(DuplicateNodeError, match="'a'"):
        Graph().node("a", abs).loop("l", Graph().node("a", abs)).compile()
    with pytest.raises(UnknownNodeError, match=r"no node 'zz'; there are: a"):
        Graph().node("a", abs).edge("zz", "a").compile()
    with pytest.raises(UnknownNodeError, match="'zz'"):
        Graph.of(loop(abs, until="zz")).compile()
    with pytest.raises(UnknownNodeError, match="'yy'"):
        Graph.of(loop(abs, carry_from="yy")).compile()
    with pytest.raises(GraphCycleError) as caught:
        two.edge("b", "a").compile()
    assert set(caught.value.node_ids) == {"a", "b"}
    for empty in (Graph(), Pipeline([]), Graph().loop("l", Graph())):
        with pytest.raises(EmptyGraphError):
            empty.compile()
    for wrong in (3, Times, object()):
        with pytest.raises(NotAFilterError):
            Graph().node("a", wrong).filters  # noqa: B018 - reading it is what raises


@pytest.mark.parametrize("step", [abs, Times(2), "scale", ("scale",), (Times(2), "scale"), 5])
def test_what_is_no_step_of_a_pipeline_is_named_with_the_way_out(step: object) -> None:
    said = re.escape(f"{step!r:.100}") + r" is no step .* Pipeline\(\[\('name', step\), \.\.\.\]\)"

    with pytest.raises(NoStepError, match=said):
        Pipeline([("first", abs), step])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


def test_names_that_were_given_are_never_made_up() -> None:
    graph = Graph.of(Times(2) >> node("times", Times(3)) >> Times(5))

    assert list(graph.compile().edges) == ["times-2", "times", "times-3"]


def test_neighbours_on_one_target_become_one_remote_part() -> None:
    gpu = {"Tag": "gpu"}
    graph = Graph.of(
        node("a", abs, target="local")
        >> node("b", abs, target="gpu")
        >> node("c", abs, target=Tag(name="gpu"))
        >> (node("d", abs, target="gpu") | node("e", abs, target=WorkerId(name="w")))
        >> node("f", len, target="gpu")
    )

    chain = {"Remote": {"node_id": "c", "target": gpu, "plan": sequence("b", "c")}}
    side = [
        {"Remote": {"node_id": "d", "target": gpu, "plan": execute("d")[0]}},
        {"Remote": {"node_id": "e", "target": {"WorkerId": "w"}, "plan": execute("e")[0]}},
    ]
    end = {"Remote": {"node_id": "f", "target": gpu, "plan": execute("f")[0]}}
    assert graph.compile().plan.to_wire() == sequence("a", chain, parallel(*side), end)
    assert graph.forward(-1) == 2


@pytest.mark.parametrize("target", [None, "gpu"])
def test_a_graph_gives_the_same_bits_here_and_as_jobs(target: str | None) -> None:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - late, see the top
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - late, see the top
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - late, see the top

    x, y = np.random.default_rng(3).normal(size=(50, 4)), np.arange(50) % 3
    graph = Graph.of(
        node("scale", StandardScaler(), target=target)
        >> node("center", Center(), target=target)
        >> (
            node("kmeans", KMeans(3, n_init=1, random_state=0), target=target)
            | node("model", LogisticRegression(), target=target)
        )
        >> node("stack", np.column_stack)
        >> node("last", LogisticRegression(C=0.5), target=target)
    )
    remote = Keep()

    here = graph.fit(x, y)
    there = Fitted(graph, run_graph(graph, x, y=y, mode="fit", remote=remote).states)
    payload = b"".join(graph_payload(graph, x, y=y, mode="fit"))
    outcome = read_outcome(bytearray(b"".join(execute_payload(payload, remote=remote))))
    forward = read_outcome(b"".join(execute_payload(b"".join(here.payload(x)))))

    assert len(remote.calls) == (0 if target is None else 2 * 4)
    assert outcome.output is None
    for states in (there.states, outcome.states):
        assert list(states) == list(here.states)
        for name, state in states.items():
            assert_same(state, here.states[name])
    assert isinstance(forward.output, np.ndarray)
    assert forward.output.tobytes() == here.forward(x).tobytes() == there.forward(x).tobytes()  # type: ignore[attr-defined]


def test_remote_loops_and_branches_run_as_jobs_with_their_own_edges() -> None:
    remote = Keep()
    body = (
        node("twice", Times(2)) >> (node("x", Times(1)) | node("y", Times(10))) >> node("s", Sum())
    )
    graph = Graph.of(
        node("in", Times(1))
        >> loop(body, node_id="l", max_iterations=2, target="gpu")
        >> branch(lambda x: Choice("a", x), {"a": node("t", Times(3), target="cpu")}, target="gpu")
    )

    assert run_graph(graph, 1, remote=remote).output == 22 * 22 * 3 == graph.forward(1)
    assert [call.target for call in remote.calls] == [Tag(name="gpu"), Tag(name="cpu")]


def test_a_failed_remote_call_is_the_nodes_failure() -> None:
    def unreachable(call: RemoteCall) -> PlanOutcome:
        raise ConnectionError("gone")

    with pytest.raises(NodeFailedError, match="node 'b' failed in remote: ConnectionError: gone"):
        run_graph(Graph.of(node("b", abs, target="gpu")), 1, remote=unreachable)


def test_a_remote_part_with_two_inputs_is_refused(bench: PlanBench) -> None:
    remote = {"Remote": {"node_id": "r", "target": {"Tag": "t"}, "plan": sequence("c", "d")}}
    edges = {"a": (), "b": (), "c": ("a",), "d": ("b", "c")}

    with pytest.raises(PlanShapeError, match="different nodes"):
        bench.run(sequence("a", "b", remote), 1, dict.fromkeys("abcd", Times(2)), edges=edges)


def test_a_remote_part_is_known_by_its_own_name_and_its_last_nodes(bench: PlanBench) -> None:
    remote = {"Remote": {"node_id": "r", "target": {"Tag": "t"}, "plan": parallel("b", "c")}}
    filters = {"a": Times(1), "b": Times(10), "c": Times(100), "d": Call(lambda x: x)}

    edges = {"a": (), "b": ("a",), "c": ("a",), "d": ("c", "b")}
    by_nodes = bench.run(sequence("a", remote, "d"), 1, filters, edges=edges, remote=Keep())
    by_name = bench.run(sequence("a", remote, "d"), 1, filters, edges={**edges, "d": ("r",)})

    assert by_nodes.output == (100, 10)
    assert by_name.output == (10, 100)


def test_an_edge_from_a_node_that_has_not_run_is_refused(bench: PlanBench) -> None:
    with pytest.raises(PlanShapeError, match="'a' takes input from 'b'"):
        bench.run(sequence("a", "b"), 1, dict.fromkeys("ab", Times(2)), edges={"a": ("b",)})


def test_the_same_plan_without_edges_means_what_it_means_upstream(bench: PlanBench) -> None:
    filters = {"a": Times(1), "b": Times(10), "c": Times(100), "d": Call(lambda x: x)}
    plan = sequence("a", parallel("b", "c"), "d")

    assert bench.run(plan, 1, filters).output == 100
    assert bench.run(plan, 1, filters, edges={"d": ("b", "c")}).output == (10, 100)


def test_a_pipeline_of_estimators_transforms_and_predicts_last() -> None:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - late, see the top
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - late, see the top

    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    scaler, model = StandardScaler(), LogisticRegression()

    fitted = Pipeline([("scale", scaler), ("model", model)]).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))

    expected = LogisticRegression().fit(StandardScaler().fit_transform(x), y)
    right = expected.predict(StandardScaler().fit(x).transform(x))
    np.testing.assert_array_equal(fitted.forward(x), right)
    np.testing.assert_array_equal(again.forward(x), right)
    assert not hasattr(scaler, "mean_")
    assert not hasattr(model, "coef_")
    assert list(fitted.states) == ["scale", "model"]


def test_the_method_of_an_estimator_can_be_chosen() -> None:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - late, see the top
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - late, see the top

    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    model = LogisticRegression().fit(x, y)

    chosen = Pipeline([("model", Estimator(LogisticRegression(), "predict_proba"))]).fit(x, y)

    np.testing.assert_array_equal(chosen.forward(x), model.predict_proba(x))
    np.testing.assert_array_equal(Pipeline([("m", model)]).forward(x), model.predict(x))
    first = Pipeline([("k", KMeans(2, n_init=1, random_state=0)), ("n", np.shape)]).fit(x)
    last = Pipeline([("k", KMeans(2, n_init=1, random_state=0))]).fit(x)
    assert first.forward(x) == (40, 2)
    assert np.shape(last.forward(x)) == (40,)


def test_a_pipeline_runs_its_steps_in_order_and_on_its_target() -> None:
    pipeline = Pipeline([("a", Times(2)), node("b", Times(3)), ("c", abs)], target="gpu")

    gpu = {"Tag": "gpu"}
    assert pipeline.forward(-1) == 6
    assert pipeline.compile().plan.to_wire() == sequence(
        {"Remote": {"node_id": "a", "target": gpu, "plan": execute("a")[0]}},
        "b",
        {"Remote": {"node_id": "c", "target": gpu, "plan": execute("c")[0]}},
    )
    assert pipeline.compile() == pipeline.graph.compile()


def test_a_filter_that_cannot_be_sent_is_named_by_its_node() -> None:
    graph = Graph().node("n", threading.Lock().__enter__)

    with pytest.raises(CannotPackError, match="the filter of node 'n'"):
        graph_payload(graph, 1)
