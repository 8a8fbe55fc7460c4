"""What people may change of runs and experiments, as they send it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Name = Annotated[str, Field(min_length=1, max_length=200)]
Notes = Annotated[str, Field(max_length=10_000)]
Tags = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]


class RunEdit(BaseModel):
    """Changes of a run; what is None stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = None
    description: Notes | None = None
    tags: Tags | None = None


class ExperimentEdit(BaseModel):
    """Changes of an experiment; what is None stays, an empty text takes away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    display_name: Annotated[str, Field(max_length=200)] | None = None
    description: Notes | None = None
    tags: Tags | None = None
    project: Annotated[str, Field(max_length=200)] | None = None


def changes_of(kind: type[RunEdit | ExperimentEdit], body: bytes) -> dict[str, object]:
    """Return what is to be changed.

    Raises:
        ValueError: The body says something else.
    """
    try:
        return kind.model_validate_json(body).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        known = ", ".join(kind.model_fields)
        raise ValueError(f"{place}: {first['msg']}; what can be changed is {known}") from error
