"""Filters that a plan leaves out are those of an earlier plan of its token, and of no other."""

import base64
from collections.abc import Mapping

from tests.integration.gateway.seed_bench import (
    Document,
    SeedPeer,
    Town,
    execute,
    plan_of,
    seed_peer,
    tensor,
)

from lineshaft_coordinator.gateway.kept_filters import KeptFilters
from lineshaft_protocol.seed import (
    Execute,
    Json,
    Sequence,
    SerializedFilter,
    SerializedPlan,
    Value,
)

Filters = Mapping[str, str]


def output_of(result: Document) -> object:
    assert result["status"] == "Success", result
    return result["output"]["value"]  # type: ignore[index]


async def test_a_later_connection_of_the_token_may_leave_out_the_filters(
    town: Town, filters: Filters
) -> None:
    async with seed_peer(town.url()) as first:
        await first.run(plan_of(execute("kept"), tensor(1), {"kept": filters["Doubler"]}))

    async with seed_peer(town.url()) as second, seed_peer(town.url(town.other_token)) as stranger:
        reused = await second.run(plan_of(execute("kept"), tensor(7), {}))
        refused = await stranger.run(plan_of(execute("kept"), tensor(7), {}))

    assert output_of(reused) == tensor(14)
    assert refused["error"] == "node `kept` not found in graph"


async def test_what_a_fit_learned_is_kept_with_the_filter(peer: SeedPeer, filters: Filters) -> None:
    fit = {"Fit": {"y": None}}
    await peer.run(plan_of(execute("s9"), tensor(1, 3), {"s9": filters["Scaler"]}, mode=fit))

    result = await peer.run(plan_of(execute("s9"), tensor(10), {}))

    assert output_of(result) == tensor(8)


async def test_a_filter_that_comes_without_a_state_has_none(
    peer: SeedPeer, filters: Filters
) -> None:
    fit = {"Fit": {"y": None}}
    await peer.run(plan_of(execute("s8"), tensor(1, 3), {"s8": filters["Scaler"]}, mode=fit))

    leaked = await peer.run(plan_of(execute("s8"), tensor(10), {"s8": filters["Look"]}))

    state = leaked["output"]["value"]["data"]["state"]  # type: ignore[index]
    assert state == {"type": "Empty"}


def brought(node_id: str, pickled: bytes, state: Value | None = None) -> SerializedFilter:
    return SerializedFilter.model_validate(
        {
            "node_id": node_id,
            "pickled_filter": base64.b64encode(pickled).decode(),
            "state": state,
        }
    )


def plan(*names: str, filters: tuple[SerializedFilter, ...] = ()) -> SerializedPlan:
    steps = tuple(Execute(node_id=name) for name in names)
    return SerializedPlan(plan_id="p", plan=Sequence(plans=steps), filters=filters, metadata=None)


def test_only_what_a_plan_names_and_lacks_is_added() -> None:
    kept = KeptFilters()
    a, b = brought("a", b"1"), brought("b", b"2")
    kept.complete("me", plan("a", "b", filters=(a, b)))
    newer = brought("a", b"3")

    completed = kept.complete("me", plan("a", "b", "c", filters=(newer,)))

    assert completed.filters == (newer, b)
    assert kept.complete("you", plan("a", "b")).filters == ()
    assert kept.complete("me", plan("a")).filters == (newer,)


def test_the_filter_not_used_for_longest_is_forgotten_first() -> None:
    kept = KeptFilters(identity_bytes_max=2500)
    a, b, c = (brought(name, bytes(500)) for name in "abc")
    kept.complete("me", plan("a", "b", filters=(a, b)))
    kept.complete("me", plan("a"))

    kept.complete("me", plan("c", filters=(c,)))

    assert kept.complete("me", plan("a", "b", "c")).filters == (a, c)
    kept.complete("me", plan("d", filters=(brought("d", bytes(5000)),)))
    assert kept.complete("me", plan("a", "b", "c", "d")).filters == ()


def test_the_token_not_used_for_longest_is_forgotten_first() -> None:
    kept = KeptFilters(identities_max=2)
    for identity in ("one", "two", "three"):
        kept.complete(identity, plan("a", filters=(brought("a", b"1"),)))

    assert kept.complete("one", plan("a")).filters == ()
    assert len(kept.complete("three", plan("a")).filters) == 1


def test_a_state_is_not_given_to_a_filter_that_came_since() -> None:
    kept = KeptFilters()
    fitted = plan("a", filters=(brought("a", b"1"),))
    kept.complete("me", fitted)
    kept.complete("me", plan("a", filters=(brought("a", b"2"),)))

    kept.learn("me", fitted, {"a": Json(data=1)})

    assert kept.complete("me", plan("a")).filters[0].state is None
