"""How Lineshaft's own models behave on the wire."""

from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar, cast

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
Fields = ParamSpec("Fields")


def _putting(name: str) -> Callable[[BaseModel, object], None]:
    """Return what sets one slot of a model, in half of the time of ``object.__setattr__``."""
    return cast("Callable[[BaseModel, object], None]", BaseModel.__dict__[name].__set__)


_put_fields, _put_named = _putting("__dict__"), _putting("__pydantic_fields_set__")
_put_extra, _put_private = _putting("__pydantic_extra__"), _putting("__pydantic_private__")


def unchecked(model: Callable[Fields, WireT]) -> Callable[Fields, WireT]:
    """Return what makes messages of this model of parts that need no check, in half of the time.

    For the few that are made for every job, of what was checked when it came or what we made; the
    type checkers still see to the fields, and the peer to all of it.

    Args:
        model: A message's class; its fields are then given by name.
    """
    made_of = cast("type[WireT]", model)
    are_shareable = all(each.default_factory is None for each in made_of.model_fields.values())
    assert are_shareable, "a default that is made anew for each message is none of these"
    whole = {
        name: None if field.is_required() else field.get_default()
        for name, field in made_of.model_fields.items()
    }
    named, new = set(whole), object.__new__
    # Found here once, not with each message.
    put_fields, put_named = _put_fields, _put_named
    put_extra, put_private = _put_extra, _put_private

    def make(*_: Fields.args, **given: Fields.kwargs) -> WireT:
        # `put_together` once more: the call of it would be a quarter of the time.
        made = new(made_of)
        put_fields(made, {**whole, **given})
        put_named(made, named)
        put_extra(made, None)
        put_private(made, None)
        return made

    return make


def put_together(model: type[WireT], fields: dict[str, object], named: set[str]) -> WireT:
    """Make a message of all its fields, unchecked; it keeps the dictionary.

    Args:
        model: What it is.
        fields: All of its fields, in their order.
        named: Those that were given; messages may share the set.
    """
    made = object.__new__(model)
    # As pydantic's own model_construct does it, which looks at each field that there is.
    _put_fields(made, fields)
    _put_named(made, named)
    _put_extra(made, None)
    _put_private(made, None)
    return made
