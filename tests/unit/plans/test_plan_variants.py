"""Each kind of plan over live filters."""

import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest
from tests.unit.plans.plan_bench import Add, Call, Labels, Mean, PlanBench, parallel, sequence

from lineshaft_protocol.seed.plans import EmptyPlan, read_plan
from lineshaft_runtime.packing import PackingError, pack_bytes, unpack
from lineshaft_runtime.plans.calling import Choice, Done
from lineshaft_runtime.plans.errors import (
    CachedValueMissingError,
    NodeFailedError,
    NodeNotFoundError,
    PlanShapeError,
)
from lineshaft_runtime.plans.events import (
    BranchTaken,
    LoopTurned,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
)
from lineshaft_runtime.plans.executor import LOOP_TURNS_DEFAULT, PlanOutcome
from lineshaft_runtime.plans.work import execute_payload, plan_payload, read_outcome


def loop(body: object, limit: int | None, **more: object) -> object:
    return {"Loop": {"node_id": "loop", "body": body, "max_iterations": limit, **more}}


def branch(*arms: tuple[str, object]) -> object:
    return {"Branch": {"node_id": "choose", "arms": [list(arm) for arm in arms]}}


def test_a_sequence_feeds_each_node_the_output_before_it(bench: PlanBench) -> None:
    outcome = bench.run(sequence("a", "b", "c"), 1, {"a": Add(1), "b": Add(10), "c": Add(100)})

    assert outcome == PlanOutcome(112, {})


def test_a_fit_gives_each_trainable_node_its_own_state_and_input(bench: PlanBench) -> None:
    filters = {"a": Call(lambda x: [2 * each for each in x]), "m": Mean(), "n": Mean()}

    outcome = bench.run(sequence("a", "m", "n"), [1.0, 2.0], filters, mode="fit")

    assert outcome == PlanOutcome([-1.0, 1.0], {"m": {"mean": 3.0}, "n": {"mean": 0.0}})


def test_a_forward_uses_the_states_it_is_given_and_returns_none(bench: PlanBench) -> None:
    states = {"m": {"mean": 3.0}, "n": {"mean": -1.0}}

    outcome = bench.run(sequence("m", "n"), [1.0, 2.0], {"m": Mean(), "n": Mean()}, states=states)

    assert outcome == PlanOutcome([-1.0, 0.0], {})


def test_a_chain_of_means_is_right_every_time(bench: PlanBench) -> None:
    filters = {"a": Call(lambda x: [2 * each for each in x]), "m": Mean(), "n": Mean()}

    outcomes = [
        bench.run(sequence("a", "m", "n"), [1.0, 2.0, 6.0], filters, mode="fit") for _ in range(100)
    ]

    right = PlanOutcome([-4.0, -2.0, 6.0], {"m": {"mean": 6.0}, "n": {"mean": 0.0}})
    assert outcomes == [right] * 100


def test_the_labels_reach_every_trainable_node_also_in_branches(bench: PlanBench) -> None:
    plan = sequence("a", parallel("b", "c"), loop(sequence("d"), 1))
    filters = {name: Labels() for name in "abcd"}

    outcome = bench.run(plan, "x", filters, y=[0, 1], mode="fit")

    assert outcome.states == {name: {"x": "x", "y": [0, 1]} for name in "abcd"}


def test_parallel_branches_take_the_same_input_and_the_last_one_goes_on(bench: PlanBench) -> None:
    filters = {"a": Add(1), "b": Add(10), "c": Add(100)}

    outcome = bench.run(sequence(parallel("a", "b"), "c"), 0, filters)

    assert outcome.output == 110


def test_parallel_branches_run_at_the_same_time(bench: PlanBench) -> None:
    barrier = threading.Barrier(3, timeout=10)
    filters = {name: Call(lambda x: (barrier.wait() >= 0, x)) for name in "abc"}

    outcome = bench.run(parallel("a", "b", "c"), 5, filters)

    assert outcome.output == (True, 5)


def test_the_first_error_in_the_order_of_the_plan_wins_after_all_have_ended(
    bench: PlanBench,
) -> None:
    late_has_failed, ended = threading.Event(), threading.Event()

    def fail_second(x: object) -> object:
        assert late_has_failed.wait(10)
        raise ValueError("first in the plan, last in time")

    def fail_first(x: object) -> object:
        late_has_failed.set()
        raise KeyError("last in the plan")

    def end(x: object) -> object:
        assert late_has_failed.wait(10)
        ended.set()
        return x

    filters = {"a": Call(fail_second), "b": Call(fail_first), "c": Call(end)}

    with pytest.raises(NodeFailedError, match="first in the plan"):
        bench.run(parallel("a", "b", "c"), 1, filters)
    assert ended.is_set()


def test_no_branches_give_the_input(bench: PlanBench) -> None:
    assert (
        bench.run(sequence(parallel(), "Empty_follows"), 1, {"Empty_follows": Add(1)}).output == 2
    )
    assert bench.run("Empty", 7, {}).output == 7
    assert bench.run({"Sequence": []}, 7, {}).output == 7


@pytest.mark.parametrize(
    ("end", "turns"),
    [
        *[("done", 3), ("stop", 3), (True, 3), ({"done": True}, 3), (None, 3), (np.True_, 3)],
        *[("go on", 5), (False, 5), ({"done": 1}, 5), (1, 5), (np.array([True]), 5)],
    ],
)
def test_a_loop_ends_when_its_body_says_so(bench: PlanBench, end: object, turns: int) -> None:
    seen: list[object] = []

    def body(x: object) -> object:
        seen.append(x)
        return end if len(seen) == 3 else x

    bench.run(loop(sequence("b"), 5), "x", {"b": Call(body)})

    assert len(seen) == turns


def test_a_loop_feeds_its_output_back_and_stops_at_its_limit(bench: PlanBench) -> None:
    filters = {"b": Add(1), "after": Add(0.5)}

    assert bench.run(sequence(loop(sequence("b"), 7), "after"), 0, filters).output == 7.5
    assert bench.run(loop(sequence("b"), 0), 3, filters).output == 3
    assert bench.run(loop(sequence("b"), None), 0, filters).output == LOOP_TURNS_DEFAULT


def test_a_loop_that_is_to_exhaust_hears_no_signal(bench: PlanBench) -> None:
    plan = loop(sequence("b"), 4, until={"type": "Exhaust"})
    seen: list[object] = []

    outcome = bench.run(plan, 0, {"b": Call(lambda x: seen.append(x) or "done")})

    assert (outcome.output, seen) == ("done", [0, "done", "done", "done"])


def test_a_loop_can_be_ended_by_one_node_and_carry_another(bench: PlanBench) -> None:
    more = {"until": {"type": "WhenSignaled", "node": "check"}, "carry_from": "step"}
    plan = loop(sequence("step", "check"), 100, **more)
    filters = {"step": Add(3), "check": Call(lambda x: x > 10)}

    assert bench.run(plan, 0, filters).output == 12


def test_a_body_can_end_its_loop_and_still_give_a_value(bench: PlanBench) -> None:
    body = Call(lambda x: Done(x * 2) if x > 3 else x + 1)

    assert bench.run(loop(sequence("b"), None), 0, {"b": body}).output == 8


def test_a_loop_fits_its_nodes_in_every_turn_and_keeps_the_last_state(bench: PlanBench) -> None:
    class Count:
        def fit(self, x: int) -> int:
            return x + 1

        def forward(self, x: int, state: int) -> int:
            return state

    outcome = bench.run(loop(sequence("c"), 5), 0, {"c": Count()}, mode="fit")

    assert outcome == PlanOutcome(5, {"c": 5})


@pytest.mark.parametrize(
    ("chosen", "label"),
    [
        ("right", "right"),
        (True, "true"),
        (False, "default"),
        (np.True_, "true"),
        ({"branch": "right"}, "right"),
        ({"branch": True}, "true"),
        ({"no": 1}, "true"),
        (7, "true"),
        ("unknown", "default"),
        (object(), "left"),
        (np.zeros(3), "left"),
    ],
)
def test_a_branch_takes_the_arm_that_its_node_chooses(
    bench: PlanBench, chosen: object, label: str
) -> None:
    labels = ["left", "right", "true", "default"]
    filters = {each: Call(lambda x, each=each: (each, x)) for each in labels}

    outcome = bench.run(
        branch(*((each, sequence(each)) for each in labels)),
        0,
        {**filters, "choose": Call(lambda _: chosen)},
    )

    assert outcome.output == (label, chosen)
    assert BranchTaken("choose", label) in bench.events


def test_an_unknown_label_without_default_takes_else_or_the_first_arm(bench: PlanBench) -> None:
    filters = {"choose": Call(lambda _: "?"), "a": Add("a"), "b": Add("b")}

    with_else = bench.run(branch(("x", sequence("a")), ("else", sequence("b"))), 0, filters)
    without = bench.run(branch(("x", sequence("a")), ("y", sequence("b"))), 0, filters)

    assert (with_else.output, without.output) == ("?b", "?a")


def test_a_choice_hands_its_value_to_the_arm_and_the_arms_output_goes_on(bench: PlanBench) -> None:
    plan = sequence(branch(("a", sequence("x")), ("b", sequence("y"))), "after")
    filters = {"choose": Call(lambda x: Choice("b", x)), "x": Add(1), "y": Add(10), "after": Add(5)}

    assert bench.run(plan, 100, filters).output == 115


def test_a_cached_node_gives_its_earlier_output_of_this_run(bench: PlanBench) -> None:
    cached = {"Cached": {"node_id": "a", "key": [0] * 32}}
    filters = {"a": Add(1), "b": Add(10)}

    assert bench.run(sequence("a", "b", cached), 0, filters).output == 1
    with pytest.raises(CachedValueMissingError) as caught:
        bench.run(cached, 0, filters)
    assert str(caught.value) == "cache error: expected cached value for node `a` not found"


def test_a_composite_runs_its_nodes_one_after_the_other(bench: PlanBench) -> None:
    plan = {"Composite": {"node_ids": ["m", "a", "m"]}}

    outcome = bench.run(plan, [1.0, 3.0], {"m": Mean(), "a": Call(lambda x: [*x, 9.0])}, mode="fit")

    assert outcome.states == {"m": {"mean": 3.0}}
    assert outcome.output == [-4.0, -2.0, 6.0]


def chunked(*names: str, size: int = 2) -> object:
    return {"Stream": {"node_ids": list(names), "chunk_size": size}}


@pytest.mark.parametrize("make", [list, np.array])
def test_a_stream_takes_chunks_through_its_nodes(
    bench: PlanBench, make: Callable[[object], object]
) -> None:
    sizes: list[int] = []

    def look(x: object) -> object:
        sizes.append(len(x))
        return x

    x = make([1, 2, 3, 4, 5])
    outcome = bench.run(chunked("a", "b"), x, {"a": Call(look), "b": Call(look)})

    assert sizes == [2, 2, 2, 2, 1, 1]
    assert type(outcome.output) is type(x)
    assert list(outcome.output) == [1, 2, 3, 4, 5]


def test_a_barrier_in_a_stream_sees_everything(bench: PlanBench) -> None:
    class Center(Mean):
        _stream_mode = "barrier"

        def forward(self, x: list[float], state: object) -> list[float]:
            return [each - sum(x) / len(x) for each in x]

    plus = Call(lambda x: [each + 1 for each in x])
    filters = {"a": plus, "c": Center(), "b": plus}

    assert bench.run(chunked("a", "c", "b"), [1.0, 2.0, 6.0], filters).output == [-1.0, 0.0, 4.0]


def test_a_fit_in_a_stream_learns_from_the_whole_input(bench: PlanBench) -> None:
    outcome = bench.run(chunked("m", "n"), [1.0, 2.0, 6.0], {"m": Mean(), "n": Mean()}, mode="fit")

    assert outcome == PlanOutcome([-2.0, -1.0, 3.0], {"m": {"mean": 3.0}, "n": {"mean": 0.0}})


def test_a_stream_of_nothing_and_of_one_thing_is_one_chunk(bench: PlanBench) -> None:
    same = {"a": Call(lambda x: x)}

    assert bench.run(chunked("a"), [], same).output == []
    assert bench.run(chunked("a"), 5, same).output == 5
    assert bench.run(chunked("a"), ([1, 2, 3], 4), same).output == ([1, 2, 3], 4)
    with pytest.raises(PlanShapeError):
        bench.run(chunked("a", size=0), [1], same)


def test_chunks_that_become_numbers_are_listed(bench: PlanBench) -> None:
    sums = {"a": Call(sum)}

    assert bench.run(chunked("a"), [1, 2, 3, 4, 5], sums).output == [3, 7, 5]
    assert bench.run(chunked("a"), np.arange(5), sums).output == [1, 5, 4]


def test_a_step_hands_over_by_the_label_it_returns(bench: PlanBench) -> None:
    def plan(*handoffs: tuple[str, object]) -> object:
        return {"Step": {"node_id": "s", "handoffs": [list(each) for each in handoffs]}}

    filters = {"s": Call(lambda x: Choice("b", x)), "a": Add(1), "b": Add(10)}
    both = plan(("a", sequence("a")), ("b", sequence("b")))

    assert bench.run(both, 5, filters).output == 15
    assert bench.run({"Step": {"node_id": "s"}}, 5, {"s": Add(1)}).output == 6
    assert bench.run(both, 5, {**filters, "s": Call(lambda _: "c")}).output == "c"


def test_loops_branches_and_parallels_nest(bench: PlanBench) -> None:
    inner = branch(("even", sequence("half")), ("odd", parallel("half", "triple")))
    filters = {
        "choose": Call(lambda x: Choice("even" if x % 2 == 0 else "odd", x)),
        "half": Call(lambda x: x // 2),
        "triple": Call(lambda x: 3 * x + 1),
        "check": Call(lambda x: Done(x) if x == 1 else x),
    }

    outcome = bench.run(loop(sequence(inner, "check"), None), 7, filters)

    turns = [event for event in bench.events if isinstance(event, LoopTurned)]
    assert (outcome.output, len(turns)) == (1, 16)


def test_a_missing_filter_is_named_in_the_seeds_words(bench: PlanBench) -> None:
    with pytest.raises(NodeNotFoundError) as caught:
        bench.run(sequence("a", "zz"), 0, {"a": Add(1)})

    assert str(caught.value) == "node `zz` not found in graph"


@pytest.mark.parametrize("method", ["fit", "forward"])
def test_a_failed_node_is_named_with_its_method_and_cause(bench: PlanBench, method: str) -> None:
    class Fails(Mean):
        pass

    def fail(*_: object) -> object:
        raise ZeroDivisionError("by zero")

    setattr(Fails, method, fail)

    with pytest.raises(NodeFailedError) as caught:
        bench.run(sequence("a", "bad"), [0.0], {"a": Call(lambda x: x), "bad": Fails()}, mode="fit")

    error = caught.value
    assert str(error) == f"node 'bad' failed in {method}: ZeroDivisionError: by zero"
    assert (error.node_id, error.method) == ("bad", method)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert [type(event) for event in bench.events] == [
        NodeStarted, NodeCompleted, NodeStarted, NodeFailed,
    ]  # fmt: skip


def test_a_trainable_filter_that_keeps_its_state_is_copied_before_it_is_fitted(
    bench: PlanBench,
) -> None:
    class Keeps:
        total = 0

        def fit(self, x: list[int]) -> None:
            self.total = sum(x)

        def forward(self, x: list[int]) -> int:
            return self.total

    original = Keeps()
    fitted = bench.run(sequence("k"), [1, 2], {"k": original}, mode="fit")
    later = bench.run(sequence("k"), [], {"k": original}, states=fitted.states)

    assert (fitted.output, later.output, original.total) == (3, 3, 0)


@pytest.mark.parametrize("kind", ["stateless", "trainable"])
def test_a_filter_that_calls_itself_stateless_is_not_fitted(bench: PlanBench, kind: str) -> None:
    class Kind(Labels):
        _kind = kind

    outcome = bench.run(sequence("k"), 1, {"k": Kind()}, mode="fit")

    assert bool(outcome.states) == (kind == "trainable")


def test_the_errors_of_plans_can_be_sent() -> None:
    for error in (
        NodeFailedError("n", "fit", ValueError("v")),
        NodeNotFoundError("n"),
        CachedValueMissingError("n"),
        PlanShapeError("text"),
    ):
        back = pickle.loads(pickle.dumps(error))

        assert (type(back), str(back)) == (type(error), str(error))
        assert repr(back.__cause__) == repr(error.__cause__)


def test_a_filter_that_cannot_be_loaded_is_named_by_its_node() -> None:
    parts = unpack(b"".join(plan_payload(EmptyPlan(), 1, filters={"n": abs})))
    assert isinstance(parts, dict)
    parts["filters"]["n"] = b"damaged"

    with pytest.raises(PackingError, match="filter of node 'n'"):
        execute_payload(pack_bytes(parts))


def test_a_packed_plan_gives_output_and_states() -> None:
    plan = read_plan(sequence("m", "a"))
    filters = {"m": Mean(), "a": Call(lambda x: (x, threading.current_thread().name))}
    edges = {"m": (), "a": ("m",)}

    payload = plan_payload(plan, [1.0, 3.0], filters=filters, mode="fit", y="y", edges=edges)
    outcome = read_outcome(b"".join(execute_payload(b"".join(payload))))

    assert outcome == PlanOutcome(([-1.0, 1.0], "MainThread"), {"m": {"mean": 2.0}})
