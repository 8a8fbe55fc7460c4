"""What programs of seed 000 send, checked."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from lineshaft_coordinator.training_runs.words import U32_MAX

Text = Annotated[str, Field(max_length=1024)]
U32 = Annotated[int, Field(ge=0, le=U32_MAX)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Body(BaseModel):
    """A body of a request; what it has too much is ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", protected_namespaces=())


class RunConfig(BaseModel):
    """How a run trains; what else is in it is kept as it is."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    epochs: U32
    batch_size: U32
    learning_rate: Number
    steps_per_epoch: U32 = 100
    optimizer: Text = "adam"


class RunBody(Body):
    """A new run."""

    name: Text
    model_type: Text
    model_version_id: Text | None = None
    dataset_id: Text | None = None
    config: RunConfig


class MetricsBody(Body):
    """Metrics of one step."""

    epoch: U32
    step: U32
    loss: Number | None = None
    accuracy: Number | None = None
    lr: Number | None = None
    gpu_util: Number | None = None
    memory_mb: Number | None = None
    custom: JsonValue = None


class LogBody(Body):
    """A line of a log."""

    message: Annotated[str, Field(max_length=1024 * 1024)]
    level: Annotated[str, Field(max_length=32)] = "INFO"


class CompleteBody(Body):
    """How a run ended."""

    success: bool


class CheckpointBody(Body):
    """A checkpoint of a notebook."""

    epoch: U32
    step: U32
    metrics: dict[str, JsonValue] = Field(default_factory=dict)


class ModelBody(Body):
    """A new model."""

    name: Text
    description: Annotated[str, Field(max_length=64 * 1024)] | None = None
    model_type: Text = ""
