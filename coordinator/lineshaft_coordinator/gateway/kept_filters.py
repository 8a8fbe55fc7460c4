"""Filters of earlier plans, for later plans of the same token that do not bring them again.

Upstream's workers keep every filter and state for everybody and for ever. Here they are kept for
one identity (a token), up to a number of bytes, and used only for nodes that a plan names and does
not bring: a plan that brings a filter without a state gets no state.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from lineshaft_protocol.seed import (
    Bytes,
    Empty,
    Json,
    Object,
    Packed,
    SerializedFilter,
    SerializedPlan,
    Tensor,
    Text,
    Value,
    node_ids,
)

IDENTITY_BYTES_MAX = 64 * 1024 * 1024
IDENTITIES_MAX = 64


@dataclass(slots=True)
class _Shelf:
    filters: OrderedDict[str, SerializedFilter] = field(
        default_factory=OrderedDict[str, SerializedFilter]
    )
    """By node; the one not used for longest in front."""
    size_bytes: int = 0


class KeptFilters:
    """What the plans of each identity brought; what was not used for longest is forgotten first."""

    def __init__(
        self,
        *,
        identity_bytes_max: int = IDENTITY_BYTES_MAX,
        identities_max: int = IDENTITIES_MAX,
    ) -> None:
        self._identity_bytes_max, self._identities_max = identity_bytes_max, identities_max
        self._shelves: OrderedDict[str, _Shelf] = OrderedDict()

    def complete(self, identity: str, plan: SerializedPlan) -> SerializedPlan:
        """Keep what the plan brings, and give it what it names, does not bring, and we have."""
        shelf = self._shelf(identity)
        for each in plan.filters:
            self._put(shelf, each)
        brought = {each.node_id for each in plan.filters}
        missing = [name for name in node_ids(plan.plan) if name not in brought]
        found = [shelf.filters[name] for name in missing if name in shelf.filters]
        for each in found:
            shelf.filters.move_to_end(each.node_id)
        return plan.model_copy(update={"filters": (*plan.filters, *found)}) if found else plan

    def learn(self, identity: str, plan: SerializedPlan, states: Mapping[str, Value]) -> None:
        """Note what a plan's filters learned; not for nodes that have another filter by now."""
        shelf = self._shelf(identity)
        for each in plan.filters:
            kept = shelf.filters.get(each.node_id)
            state = states.get(each.node_id)
            if kept is None or state is None or kept.pickled_filter != each.pickled_filter:
                continue
            self._put(shelf, kept.model_copy(update={"state": state}))

    def _shelf(self, identity: str) -> _Shelf:
        shelf = self._shelves.setdefault(identity, _Shelf())
        self._shelves.move_to_end(identity)
        if len(self._shelves) > self._identities_max:
            self._shelves.popitem(last=False)
        return shelf

    def _put(self, shelf: _Shelf, each: SerializedFilter) -> None:
        earlier = shelf.filters.pop(each.node_id, None)
        shelf.size_bytes -= 0 if earlier is None else _size_bytes(earlier)
        shelf.filters[each.node_id] = each
        shelf.size_bytes += _size_bytes(each)
        while shelf.size_bytes > self._identity_bytes_max:
            _, oldest = shelf.filters.popitem(last=False)
            shelf.size_bytes -= _size_bytes(oldest)


def _size_bytes(each: SerializedFilter) -> int:
    """About how much memory it takes."""
    size_bytes = 500 + len(each.pickled_filter)
    match each.state:
        case Tensor(values=values):
            return size_bytes + 32 * len(values)
        case Bytes(data=data) | Object(data=data) | Packed(data=data) | Text(data=data):
            return size_bytes + len(data)
        case Json(data=data):
            return size_bytes + 4 * len(repr(data))
        case Empty() | None:
            return size_bytes
