"""How Lineshaft's own models behave on the wire."""

from typing import ClassVar

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
