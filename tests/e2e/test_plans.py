"""Plans on real workers give what they give here, bit for bit."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.e2e.farm import Farm

import lineshaft
from lineshaft import Client, Graph, Pipeline
from lineshaft.filters import Choice, Filter, WorkerId, branch, loop, node


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


class Scale(Filter):
    def fit(self, x, y=None):
        return {"mean": x.mean(axis=0), "spread": x.std(axis=0) + 1e-9}

    def forward(self, x, state):
        return (x - state["mean"]) / state["spread"]


class Mean(Filter):
    _kind = "stateless"

    def forward(self, x, state):
        return np.asarray(x) * 0.5 + np.asarray(x).mean()


class Double(Filter):
    _kind = "stateless"

    def forward(self, x, state):
        return np.asarray(x) * 2.0


class Add(Filter):
    _kind = "stateless"

    def forward(self, x, state):
        return x[0] - 3.0 * x[1]


class Classes(Filter):
    """Needs its labels: the mean of each class."""

    def fit(self, x, y=None):
        return {int(label): x[y == label].mean(axis=0) for label in np.unique(y)}

    def forward(self, x, state):
        labels = sorted(state)
        distances = np.stack([((x - state[label]) ** 2).sum(axis=1) for label in labels])
        return np.asarray(labels)[distances.argmin(axis=0)]


class Where(Filter):
    _kind = "stateless"

    def forward(self, x, state):
        import os

        return os.environ.get("LINESHAFT_WORKER", "") or os.getpid()


def data(rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.normal(size=(rows, 3)), rng.integers(0, 3, size=rows)


def diamond() -> Graph:
    graph = Graph()
    graph.node("scale", Scale())
    graph.node("double", Double())
    graph.node("mean", Mean())
    graph.node("add", Add())
    for a, b in (("scale", "double"), ("scale", "mean"), ("double", "add"), ("mean", "add")):
        graph.edge(a, b)
    return graph


GRAPHS = {
    "one node": lambda: Graph.of(node("scale", Scale())),
    "sequence": lambda: Graph.of(node("scale", Scale()) >> node("mean", Mean())),
    "diamond": diamond,
    "parallel": lambda: Graph.of(
        node("scale", Scale()) >> (node("double", Double()) | node("mean", Mean()))
    ),
    "remote by tag": lambda: Graph.of(
        node("scale", Scale()) >> node("double", Double(), target="two") >> node("mean", Mean())
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_remote_plan_gives_what_the_local_one_gives(client: Client, name: str) -> None:
    x, y = data()
    local = GRAPHS[name]().fit(x, y)

    remote = client.fit(GRAPHS[name](), x, y)

    assert sorted(remote.states) == sorted(local.states)
    for key, state in local.states.items():
        for part, value in state.items():
            assert np.asarray(remote.states[key][part]).tobytes() == np.asarray(value).tobytes()
    ours, theirs = local.forward(x), client.forward(remote, x)
    for mine, other in zip(_parts(ours), _parts(theirs), strict=True):
        assert mine.tobytes() == other.tobytes()


def _parts(value: object) -> list[np.ndarray]:
    return [np.asarray(part) for part in (value if isinstance(value, tuple) else (value,))]


def test_mean_after_mean_is_right_a_hundred_times(client: Client) -> None:
    pipeline = Pipeline([("a", Double()), ("m1", Mean()), ("m2", Mean())])
    x, _ = data(8)
    wanted = pipeline.fit(x).forward(x)
    fitted = client.fit(pipeline, x)

    wrong = sum(
        not np.array_equal(np.asarray(client.forward(fitted, x)), np.asarray(wanted))
        for _ in range(100)
    )

    assert wrong == 0


def test_labels_reach_fit(client: Client) -> None:
    x, y = data(60)
    pipeline = Pipeline([("scale", Scale()), ("classes", Classes())])

    labels = client.forward(client.fit(pipeline, x, y), x)

    assert np.array_equal(np.asarray(labels), np.asarray(pipeline.fit(x, y).forward(x)))


def test_states_of_one_plan_do_not_leak_into_another(client: Client) -> None:
    x, _ = data()
    first = client.fit(Pipeline([("scale", Scale())]), x)
    client.fit(Pipeline([("scale", Scale())]), x * 100.0)

    again = client.forward(first, x)

    assert np.array_equal(
        np.asarray(again), np.asarray(Pipeline([("scale", Scale())]).fit(x).forward(x))
    )


def test_a_remote_node_runs_on_the_worker_with_the_tag(client: Client) -> None:
    graph = Graph.of(node("where", Where(), target="two"))
    fitted = client.fit(graph, 1.0)
    client.forward(fitted, 1.0)

    children = [job for job in client.jobs(limit=200) if "." in job["job_id"]]  # type: ignore[union-attr,index,operator]
    placed = {job["worker_id"] for job in children if "remote node" in (job["name"] or "")}  # type: ignore[index,call-overload]
    top = [job for job in client.jobs(limit=3) if job["kind"] == "plan"]  # type: ignore[union-attr,index,call-overload]
    assert "w2" in placed or {job["worker_id"] for job in top} == {"w2"}  # type: ignore[index,call-overload]


def test_a_loop_and_a_branch_run_remotely_as_here(client: Client) -> None:
    class Halve(Filter):
        _kind = "stateless"

        def forward(self, x, state):
            return x / 2.0

    class Sign(Filter):
        _kind = "stateless"

        def forward(self, x, state):
            return Choice("neg" if float(np.sum(x)) < 0 else "pos", x)

    looped = Graph.of(loop(node("halve", Halve()), node_id="again", max_iterations=5))
    branched = Graph.of(
        branch(
            Sign(),
            {"neg": node("double", Double()), "pos": node("mean", Mean())},
            node_id="sign",
        )
    )
    x, _ = data(4)
    for graph in (looped, branched):
        for value in (x, -abs(x)):
            local = graph.fit(value).forward(value)
            remote = client.forward(client.fit(graph, value), value)
            assert np.array_equal(np.asarray(remote), np.asarray(local))


def test_a_failing_node_is_named(client: Client) -> None:
    class Breaks(Filter):
        _kind = "stateless"

        def forward(self, x, state):
            raise ZeroDivisionError("no luck")

    with pytest.raises(Exception, match="breaks") as raised:
        client.fit(Pipeline([("breaks", Breaks())]), 1.0)
    assert "no luck" in str(raised.value)


def test_a_target_that_cannot_be_a_worker_fails_the_plan_and_harms_no_worker(
    client: Client,
) -> None:
    pipeline = Pipeline([("double", Double())], target=WorkerId(name="no such / name"))

    with pytest.raises(lineshaft.LineshaftError):
        client.fit(pipeline, 1.0)

    assert client.submit(pow, 2, 2).result(20) == 4


def test_a_nested_target_is_refused_and_not_ignored() -> None:
    inner = Pipeline([("double", Double())], target="gpu-box")

    with pytest.raises(lineshaft.LineshaftError, match="target"):
        Pipeline([("first", Mean()), ("inner", inner)]).compile()
