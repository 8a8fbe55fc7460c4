"""What happens inside a run or a study, as the seed protocol tells it.

No upstream worker ever sends an event, so these shapes come from its documentation alone, and the
types of study and trial ids are open. The events whose fields are not documented are kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, get_args

from pydantic import JsonValue, PlainValidator
from typing_extensions import override

from lineshaft_protocol.seed.capabilities import Timestamp
from lineshaft_protocol.seed.wire import (
    U64,
    CacheKey,
    Dialect,
    Items,
    SeedModel,
    by_name,
    is_object,
    read_tagged,
)

Id: TypeAlias = str | U64
NodeKind: TypeAlias = Literal["Stateless", "Trainable", "Opaque"]
CacheTier: TypeAlias = Literal["Memory", "Local", "Remote"]
OpaqueName: TypeAlias = Literal[
    "EpochStarted",
    "EpochCompleted",
    "StepCompleted",
    "MetricReported",
    "HealthFlag",
    "AgentTurnStarted",
    "EffectRequested",
    "EffectCompleted",
    "ToolCalled",
    "Handoff",
    "Suspended",
    "Resumed",
    "AgentStepCompleted",
    "AgentSpawned",
]


class PlanSummary(SeedModel):
    """The size of a plan."""

    total_nodes: U64
    cached_nodes: U64
    parallel_branches: U64


class MetricRecord(SeedModel):
    """One number that a trial reported."""

    name: str
    value: float
    step: U64 | None = None
    timestamp: Timestamp


class _Event(SeedModel):
    tag: ClassVar[str | None] = "event_type"


class RunStarted(_Event):
    """A run began."""

    run_id: str
    plan_summary: PlanSummary


class NodeStarted(_Event):
    """A node began; `effectful` is dialect C's."""

    since: ClassVar[Mapping[str, Dialect]] = {"effectful": "C"}
    run_id: str
    node_id: str
    kind: NodeKind
    effectful: bool = False


class NodeProgress(_Event):
    """A node got on; progress is a fraction of 1."""

    run_id: str
    node_id: str
    progress: float


class NodeCacheHit(_Event):
    """A node's output was found; `load_time` is in milliseconds."""

    run_id: str
    node_id: str
    key: CacheKey
    tier: CacheTier
    load_time: U64


class NodeCacheMiss(_Event):
    """A node's output was not found (dialect C)."""

    run_id: str
    node_id: str
    key: CacheKey


class NodeCompleted(_Event):
    """A node ended; `duration` is in milliseconds."""

    run_id: str
    node_id: str
    duration: U64
    output_summary: str


class NodeFailed(_Event):
    """A node failed."""

    run_id: str
    node_id: str
    error: str


class RunCompleted(_Event):
    """A run ended; `duration` is in milliseconds."""

    run_id: str
    duration: U64


class RunFailed(_Event):
    """A run failed."""

    run_id: str
    error: str


class TrialStarted(_Event):
    """A trial began."""

    study_id: Id
    trial_id: Id
    params: JsonValue


class TrialMetric(_Event):
    """A trial reported a number."""

    study_id: Id
    trial_id: Id
    metric: MetricRecord


class TrialPruned(_Event):
    """A trial was stopped as hopeless."""

    study_id: Id
    trial_id: Id
    step: U64
    reason: str


class TrialCompleted(_Event):
    """A trial ended."""

    study_id: Id
    trial_id: Id
    final_metrics: Items[MetricRecord]


class TrialFailed(_Event):
    """A trial failed."""

    study_id: Id
    trial_id: Id
    error: str


class StudyStarted(_Event):
    """A study began; without `total_trials` it has no end of its own."""

    study_id: Id
    name: str
    total_trials: U64 | None = None


class StudyProgress(_Event):
    """A study got on."""

    study_id: Id
    completed: U64
    total: U64 | None = None
    best_value: float | None = None


class BestUpdated(_Event):
    """A trial is the best so far."""

    study_id: Id
    trial_id: Id
    value: float
    params: JsonValue


class ParetoUpdated(_Event):
    """The set of unbeaten trials changed."""

    study_id: Id
    front_size: U64


class StudyCompleted(_Event):
    """A study ended."""

    study_id: Id
    best_trial_id: Id | None = None
    best_value: float | None = None


class GenerationStarted(_Event):
    """A generation began."""

    study_id: Id
    generation: U64
    population_size: U64


class GenerationCompleted(_Event):
    """A generation ended."""

    study_id: Id
    generation: U64
    best_fitness: float
    mean_fitness: float


class MemberExploited(_Event):
    """A member of the population was replaced by a better one."""

    study_id: Id
    generation: U64
    replaced_id: Id
    donor_id: Id


class OpaqueEvent(_Event):
    """An event of dialect C whose fields are not documented, as it came."""

    event_type: OpaqueName
    fields: dict[str, JsonValue]

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        return {"event_type": self.event_type, **self.fields}


def read_event(data: object) -> Event:
    """Read an event.

    Raises:
        ProtocolError: It is none.
    """
    if isinstance(data, OpaqueEvent):
        return data
    if is_object(data) and data.get("event_type") in _OPAQUE_NAMES:
        fields = {name: value for name, value in data.items() if name != "event_type"}
        return OpaqueEvent.from_wire({"event_type": data["event_type"], "fields": fields})
    return read_tagged(data, tag="event_type", variants=_EVENTS)


Event: TypeAlias = Annotated[
    RunStarted
    | NodeStarted
    | NodeProgress
    | NodeCacheHit
    | NodeCacheMiss
    | NodeCompleted
    | NodeFailed
    | RunCompleted
    | RunFailed
    | TrialStarted
    | TrialMetric
    | TrialPruned
    | TrialCompleted
    | TrialFailed
    | StudyStarted
    | StudyProgress
    | BestUpdated
    | ParetoUpdated
    | StudyCompleted
    | GenerationStarted
    | GenerationCompleted
    | MemberExploited
    | OpaqueEvent,
    PlainValidator(read_event),
]
_OPAQUE_NAMES: Final[tuple[str, ...]] = get_args(OpaqueName)
_EVENTS: Final[Mapping[str, type[Event]]] = by_name(
    RunStarted,
    NodeStarted,
    NodeProgress,
    NodeCacheHit,
    NodeCacheMiss,
    NodeCompleted,
    NodeFailed,
    RunCompleted,
    RunFailed,
    TrialStarted,
    TrialMetric,
    TrialPruned,
    TrialCompleted,
    TrialFailed,
    StudyStarted,
    StudyProgress,
    BestUpdated,
    ParetoUpdated,
    StudyCompleted,
    GenerationStarted,
    GenerationCompleted,
    MemberExploited,
)
