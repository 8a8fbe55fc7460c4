"""What a worker has and how busy it is, and the job that is a folder of Python files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from lineshaft_protocol.seed.wire import U32, U64, Items, SeedModel

Timestamp = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
        r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
    ),
]
"""RFC 3339, kept as text; written with `Z`."""


class Gpu(SeedModel):
    """One GPU."""

    name: str
    memory_bytes: U64


class Capabilities(SeedModel):
    """What a worker has."""

    cpu_cores: U32
    ram_bytes: U64
    gpus: Items[Gpu]
    python_envs: Items[str]
    tags: Items[str]


class LoadMetrics(SeedModel):
    """How busy a worker is; usages are fractions of 1."""

    cpu_usage: float
    memory_usage: float
    gpu_usage: Items[float]
    active_plans: U64
    queue_depth: U64
    timestamp: Timestamp


class PipelineFile(SeedModel):
    """A file of a job; its path is the sender's word and may try to leave the job's folder."""

    path: str
    content: str


class PythonPipelineJob(SeedModel):
    """Files to write, requirements to install, one of the files to run."""

    job_id: str
    pipeline_id: str
    investigation_id: str
    files: Items[PipelineFile]
    requirements: str
    """In the format of requirements.txt."""
    entry_point: str
    """The path of a file, not a function."""
    input_data: JsonValue = None
    params: JsonValue
