"""How Lineshaft's own models behave on the wire."""

from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

NUMBER_MAX = 2**53
"""Largest whole number in a message: every language's JSON reads it, and every store keeps it."""


class Wire(BaseModel):
    """Immutable, named fields; a field that a newer peer added is ignored.

    ``None`` fields are left out when written, so an optional field costs nothing to a peer that
    does not use it.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=True,
        ser_json_inf_nan="constants",
    )


WireT = TypeVar("WireT", bound=Wire)


def put_together(model: type[WireT], fields: dict[str, object], named: set[str]) -> WireT:
    """Make a message of parts that were checked already: to check them again takes four times it.

    Args:
        model: What it is.
        fields: All of its fields; the message keeps the dictionary.
        named: Those that were not left to what the model says; messages may share the set.
    """
    made = model.__new__(model)
    # As pydantic's own model_construct, which looks at each field that there is.
    object.__setattr__(made, "__dict__", fields)
    object.__setattr__(made, "__pydantic_fields_set__", named)
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made
