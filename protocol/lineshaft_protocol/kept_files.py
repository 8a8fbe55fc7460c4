"""Files that a job leaves behind, as its records name them."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from lineshaft_protocol.ids import Digest, Name
from lineshaft_protocol.wire import NUMBER_MAX, Wire

KeptName = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class KeptFile(Wire):
    """One checkpoint or artifact of a job."""

    file_id: Name
    """Made by the worker, so that saying it twice is harmless."""
    kind: Literal["checkpoint", "artifact"]
    name: KeptName
    """A relative path; whoever writes it to a disk checks it first."""
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    at: float = Field(allow_inf_nan=False)
    """When it was saved, seconds since 1970 on the worker's clock."""
    size_bytes: int = Field(default=0, ge=0, le=NUMBER_MAX)
    blob: Digest | None = None
    """SHA-256 of the content; ``None`` when it could not be stored, and ``problem`` says why."""
    is_folder: bool = False
    """The content is a tar archive of a folder."""
    step: int | None = Field(default=None, ge=-NUMBER_MAX, le=NUMBER_MAX)
    metadata: dict[str, JsonValue] | None = None
    problem: str | None = None
