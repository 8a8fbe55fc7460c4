"""Plans of upstream clients: their filters load, and get and give what upstream's tables say."""

import base64
import json
import math
import pickle
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import cloudpickle
import numpy as np
import pytest
from tests.unit.plans.plan_bench import execute, parallel, sequence

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed.results import InlineOutput, Success, read_plan_result
from lineshaft_protocol.seed.values import (
    Bytes,
    Empty,
    Json,
    Object,
    Packed,
    Tensor,
    Text,
    Value,
    read_value,
)
from lineshaft_protocol.seed.wire import Dialect
from lineshaft_runtime.packing import PackingError, pack_bytes
from lineshaft_runtime.plans import soma_standin
from lineshaft_runtime.plans.errors import (
    NodeFailedError,
    PlanShapeError,
    ValueNotSendableError,
)
from lineshaft_runtime.plans.executor import PlanOutcome, RemoteCall
from lineshaft_runtime.plans.seed_calling import PICKLE_KEY, SeedCalling, argument
from lineshaft_runtime.plans.work import call_payload, execute_payload, read_outcome


def tensor(*values: float, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(values=values, shape=(len(values),) if shape is None else shape)


@pytest.mark.parametrize(
    ("value", "python"),
    [
        (tensor(1.0, 2.0), [1.0, 2.0]),
        (tensor(1, 2, 3, 4, 5, 6, shape=(2, 3)), [[1, 2, 3], [4, 5, 6]]),
        (tensor(1, 2, 3, 4, shape=(2, 1, 2)), [[[1, 2]], [[3, 4]]]),
        (tensor(7, shape=()), 7.0),
        (tensor(shape=(0, 3)), []),
        (tensor(shape=(2, 0)), [[], []]),
        (tensor(1, 2, 3, shape=(2, 2)), [1, 2, 3]),
        (Json(data={"a": [1, None]}), {"a": [1, None]}),
        (Json(data={"x": 1, "state": 2}), {"x": 1, "state": 2}),
        (Json(data={PICKLE_KEY: base64.b64encode(pickle.dumps((1, 2))).decode()}), (1, 2)),
        (Json(data={PICKLE_KEY: "AA==", "b": 1}), {PICKLE_KEY: "AA==", "b": 1}),
        (Bytes(data=b"\x00\xff"), b"\x00\xff"),
        (Empty(), {"type": "Empty"}),
        (Object(data=pickle.dumps({1, 2}, protocol=5)), {1, 2}),
        (Text(data="é"), "é"),
        (Packed(data=pack_bytes({"a": (1,)})), {"a": (1,)}),
        ((tensor(1.0), Text(data="b")), [[1.0], "b"]),
    ],
)
def test_values_become_what_filters_get(value: object, python: object) -> None:
    assert argument(value) == python


def pickled(value: object) -> Json:
    return Json(data={PICKLE_KEY: base64.b64encode(cloudpickle.dumps(value, protocol=5)).decode()})


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ([1, 2.5], tensor(1.0, 2.5)),
        ([np.float64(2.5)], tensor(2.5)),
        ([1, "a"], Json(data=[1, "a"])),
        ([[1, 2], [3, 4], [5, 6]], tensor(1, 2, 3, 4, 5, 6, shape=(3, 2))),
        ([[1, 2], [3]], Json(data=[[1, 2], [3]])),
        ([[1, 2], [3, "a"]], Json(data=[[1, 2], [3, "a"]])),
        ([[1], 2], Json(data=[[1], 2])),
        ([[[1.0]]], Json(data=[[[1.0]]])),
        ([[]], Json(data=[[]])),
        ([], Json(data=[])),
        ([True, False], Json(data=[True, False])),
        ([2**53 + 1, 1], Json(data=[2**53 + 1, 1])),
        (None, Empty()),
        (3, Json(data=3)),
        (True, Json(data=True)),
        ({"a": [1, {"b": None}]}, Json(data={"a": [1, {"b": None}]})),
        ((1, 2), pickled((1, 2))),
        ({1: "a"}, pickled({1: "a"})),
        ({"a": {1, 2}}, pickled({"a": {1, 2}})),
        (2**64, pickled(2**64)),
        ("\ud800", pickled("\ud800")),
        (b"ab", pickled(b"ab")),
        (np.arange(3), pickled(np.arange(3))),
    ],
)
def test_results_become_values_and_lose_nothing(result: object, value: Value) -> None:
    calling = SeedCalling({}, dialect="unknown")

    assert calling.value(result) == value
    if value != Empty():
        assert repr(argument(calling.value(result))) in (repr(result), repr(_floats(result)))


def test_inside_json_a_tuple_becomes_a_list() -> None:
    calling = SeedCalling({}, dialect="unknown")

    assert calling.value({"a": (1, {"b": ()})}) == Json(data={"a": [1, {"b": []}]})
    assert calling.value([(1, 2), "c"]) == Json(data=[[1, 2], "c"])


def _floats(result: object) -> object:
    if isinstance(result, list):
        return [_floats(each) for each in result]
    return float(result) if isinstance(result, int | float) else result


@pytest.mark.parametrize(
    ("dialect", "value"),
    [("C", Text(data="s")), ("B", Json(data="s")), ("unknown", Json(data="s"))],
)
def test_only_dialect_c_has_text(dialect: Dialect, value: Value) -> None:
    assert SeedCalling({}, dialect=dialect).value("s") == value


@pytest.mark.parametrize("result", [math.nan, [1.0, math.inf], [[math.nan]], {"a": [-math.inf]}])
def test_numbers_that_json_cannot_carry_fail_with_advice(result: object) -> None:
    with pytest.raises(ValueNotSendableError, match="replace it in the filter"):
        SeedCalling({}, dialect="C").value(result)


def test_deep_results_are_pickled_rather_than_refused_by_the_peer() -> None:
    deep: object = 1
    for _ in range(60):
        deep = {"a": deep}

    assert SeedCalling({}, dialect="C").value(deep) == pickled(deep)


@pytest.mark.parametrize(
    ("value", "size", "chunks"),
    [
        (tensor(1, 2, 3), 2, [tensor(1, 2), tensor(3)]),
        (tensor(*range(6), shape=(3, 2)), 2,
            [tensor(*range(4), shape=(2, 2)), tensor(4, 5, shape=(1, 2))]),
        (tensor(shape=(0, 2)), 2, [tensor(shape=(0, 2))]),
        (tensor(1, 2, shape=(3,)), 2, [tensor(1, 2, shape=(3,))]),
        (Json(data=["a", 1, None]), 2, [Json(data=["a", 1]), Json(data=[None])]),
        (Text(data="abc"), 2, [Text(data="abc")]),
    ],
)  # fmt: skip
def test_values_are_cut_into_chunks_and_put_together(
    value: Value, size: int, chunks: list[Value]
) -> None:
    calling = SeedCalling({}, dialect="C")

    assert calling.chunks(value, size) == chunks
    assert calling.concatenate(chunks) == value


def test_chunks_of_different_kinds_become_a_list() -> None:
    calling = SeedCalling({}, dialect="C")

    assert calling.concatenate([Json(data=1), Json(data=2)]) == tensor(1, 2)
    assert calling.concatenate([tensor(1), Json(data="a")]) == Json(data=[[1.0], "a"])


@pytest.fixture
def upstream() -> Iterator[Callable[[type], object]]:
    """Turns a class into an object of it, pickled where `soma` is upstream's."""
    package, module = ModuleType("soma"), ModuleType("soma.filter")
    meta = type("FilterMeta", (type,), {"__module__": "soma.filter"})
    base = meta("Filter", (), {"__module__": "soma.filter"})
    module.FilterMeta, module.Filter = meta, base  # type: ignore[attr-defined]

    def derived(plain: type) -> str:
        sys.modules.update({"soma": package, "soma.filter": module})
        body = {
            key: each for key, each in vars(plain).items() if key not in {"__dict__", "__weakref__"}
        }
        body["__module__"] = "__main__"
        filter_class = meta(plain.__name__, (base,), body)
        data = cloudpickle.dumps(filter_class(), protocol=5)
        assert b"soma.filter" in data
        for name in ("soma", "soma.filter"):
            del sys.modules[name]
        # Or it would give us the class back, as it does inside one process.
        cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
        return base64.b64encode(data).decode()

    yield derived
    for name in ("soma", "soma.filter"):
        sys.modules.pop(name, None)


class Doubler:
    def forward(self, x, state):
        return [2 * each for each in x]


class Scaler:
    def fit(self, x, y=None):
        return {"mean": sum(x) / len(x), "labels": y}

    def forward(self, x, state):
        return [each - state["mean"] for each in x]


class Look:
    def forward(self, x, state):
        return {"x": x, "state": state}


class Fails:
    def forward(self, x, state):
        return math.nan


def serialized(
    plan: object,
    x: Value | None,
    filters: dict[str, object],
    mode: object = "Forward",
    metadata: object = None,
    **more: object,
) -> bytes:
    document = {
        "plan_id": "p", "plan": plan, "mode": mode, "metadata": metadata,
        "input": None if x is None else {"source": "Inline", "value": x.to_wire("C")},
        "filters": [
            {"node_id": name, "pickled_filter": data, "trainable": name.startswith("s")}
            if isinstance(data, str) else {"node_id": name, **data}
            for name, data in filters.items()
        ],
        **more,
    }  # fmt: skip
    return json.dumps(document).encode()


def run(*args: object, **more: object) -> Success:
    (result,) = execute_payload(serialized(*args, **more))  # type: ignore[arg-type]
    success = read_plan_result(json.loads(bytes(result)))
    assert isinstance(success, Success)
    return success


def test_an_upstream_plan_is_fitted_with_its_labels(upstream: Callable[[type], str]) -> None:
    filters = {"d": upstream(Doubler), "s1": upstream(Scaler), "s2": upstream(Scaler)}
    fit = {"Fit": {"y": tensor(0, 1, 1).to_wire()}}

    success = run(sequence("d", "s1", "s2"), tensor(1, 2, 6), filters, fit)

    assert success.output == InlineOutput(value=tensor(-4, -2, 6))
    assert success.states == {
        "s1": Json(data={"mean": 6.0, "labels": [0.0, 1.0, 1.0]}),
        "s2": Json(data={"mean": 0.0, "labels": [0.0, 1.0, 1.0]}),
    }


def test_an_upstream_forward_uses_the_state_that_came_with_the_filter(
    upstream: Callable[[type], str],
) -> None:
    state = Json(data={"mean": 10.0}).to_wire()
    filters = {"s": {"pickled_filter": upstream(Scaler), "state": state, "trainable": True}}

    success = run(sequence("s"), tensor(11, 12), filters)

    assert success.output == InlineOutput(value=tensor(1, 2))
    assert success.states == {}


def test_no_input_and_no_state_look_as_they_do_upstream(upstream: Callable[[type], str]) -> None:
    success = run(sequence("l"), None, {"l": upstream(Look)})

    empty = {"type": "Empty"}
    assert success.output == InlineOutput(value=Json(data={"x": empty, "state": empty}))


def test_edges_in_the_metadata_give_upstream_filters_their_true_inputs(
    upstream: Callable[[type], str],
) -> None:
    edges = {"lineshaft": {"edges": {"a": [], "b": ["a"], "c": ["a"], "l": ["c", "a", "b"]}}}
    filters = {
        "a": upstream(Doubler),
        "b": upstream(Doubler),
        "c": upstream(Doubler),
        "l": upstream(Look),
    }
    plan = sequence("a", parallel("b", "c"), "l")

    joined = run(plan, tensor(1), filters, metadata=edges).output
    guessed = run(plan, tensor(1), filters).output
    several = run(sequence("a", parallel("b", "c")), tensor(1), filters, metadata=edges).output

    named = run(plan, tensor(1), filters, protocol_version=1).output

    assert joined.value.data["x"] == [[4.0], [2.0], [4.0]]  # type: ignore[union-attr]
    assert guessed.value.data["x"] == [4.0]  # type: ignore[union-attr]
    assert named.value.data["x"] == {"b": [4.0], "c": [4.0]}  # type: ignore[union-attr]
    assert several == InlineOutput(value=tensor(4, 4, shape=(2, 1)))


@pytest.mark.parametrize("edges", [3, {"a": 1}, {"a": [1]}])
def test_damaged_edges_are_refused(edges: object) -> None:
    with pytest.raises(PlanShapeError, match="edges"):
        execute_payload(serialized("Empty", None, {}, metadata={"lineshaft": {"edges": edges}}))


@pytest.mark.parametrize(
    ("more", "is_bare", "is_delivery"),
    [({}, True, True), ({"protocol_version": 1}, False, True)],
)
def test_the_output_has_the_form_that_the_client_reads(
    more: dict[str, object], is_bare: bool, is_delivery: bool
) -> None:
    (result,) = execute_payload(serialized("Empty", Json(data=[1, "a"]), {}, **more))  # type: ignore[arg-type]

    output = json.loads(bytes(result))["output"]
    assert (output.get("type") == "Json") is is_bare
    assert (output.get("delivery") == "Inline") is is_delivery
    assert read_value(output["value"]) == Json(data=[1, "a"])


def test_an_arm_of_a_new_client_gets_what_the_choosing_node_got(
    upstream: Callable[[type], str],
) -> None:
    plan = {"Branch": {"node_id": "d", "arms": [["else", execute("l")[0]]]}}
    filters = {"d": upstream(Look), "l": upstream(Look)}

    old = run(plan, tensor(1), filters).output.value  # type: ignore[union-attr]
    new = run(plan, tensor(1), filters, protocol_version=1).output.value  # type: ignore[union-attr]

    assert old.data["x"]["x"] == [1.0]
    assert new.data["x"] == [1.0]


def test_remote_parts_of_an_upstream_plan_can_be_jobs(upstream: Callable[[type], str]) -> None:
    calls: list[RemoteCall] = []

    def as_job(call: RemoteCall) -> PlanOutcome:
        calls.append(call)
        return read_outcome(b"".join(execute_payload(b"".join(call_payload(call)))))

    remote = {"Remote": {"node_id": "r", "target": {"Tag": "gpu"}, "plan": sequence("s", "d")}}
    filters = {"d": upstream(Doubler), "s": upstream(Scaler)}
    payload = serialized(sequence("d", remote), tensor(1, 2), filters, {"Fit": {"y": None}})

    (result,) = execute_payload(payload, remote=as_job)

    success = read_plan_result(json.loads(bytes(result)))
    assert isinstance(success, Success)
    assert success.output == InlineOutput(value=tensor(-2, 2))
    assert success.states == {"s": Json(data={"mean": 3.0, "labels": None})}
    assert len(calls) == 1


def test_what_goes_wrong_in_an_upstream_plan_is_raised(upstream: Callable[[type], str]) -> None:
    reference = {"source": "Reference", "data_ref": {"type": "Local", "path": "/etc/passwd"}}

    with pytest.raises(NodeFailedError, match="'n' failed in forward: ValueNotSendableError"):
        execute_payload(serialized(execute("n")[0], None, {"n": upstream(Fails)}))
    with pytest.raises(PackingError, match="filter of node 'n'"):
        execute_payload(serialized(execute("n")[0], None, {"n": "AAAA"}))
    with pytest.raises(PlanShapeError, match="Local reference"):
        execute_payload(serialized("Empty", None, {}, input=reference))
    with pytest.raises(ProtocolError):
        execute_payload(b"{")
    with pytest.raises(PackingError, match="not a plan"):
        execute_payload(pack_bytes({"plan": 1}))
    with pytest.raises(PackingError, match="not the result of a plan"):
        read_outcome(pack_bytes([1]))


def test_the_stand_in_is_there_only_where_it_was_installed(
    upstream: Callable[[type], str],
) -> None:
    data = base64.b64decode(upstream(Doubler))

    with pytest.raises(ModuleNotFoundError, match="soma"):
        pickle.loads(data)
    soma_standin.install()
    doubler = pickle.loads(data)

    from soma.filter import Filter, FilterMeta, search  # type: ignore[import-not-found]  # noqa: PLC0415

    assert isinstance(doubler, Filter)
    assert type(type(doubler)) is FilterMeta
    assert doubler.forward([1], None) == [2]
    assert "0.1" in repr(search(0.1, 1, scale="log"))
    soma_standin.install()
    assert sys.modules["soma.filter"].Filter is Filter
