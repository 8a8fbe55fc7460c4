"""The data that plans carry: tensors, JSON, bytes and pickles.

Pickles (`Object`) and Lineshaft's packed values stay bytes here: nothing in this package looks
inside them.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, JsonValue, PlainValidator
from typing_extensions import override

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed.wire import (
    U64,
    Dialect,
    Items,
    Octets,
    SeedModel,
    by_name,
    is_list,
    is_object,
    kind_of,
    variant_named,
)


class Tensor(SeedModel):
    """Numbers in row-major order."""

    values: Items[float]
    shape: Items[U64]

    def is_complete(self) -> bool:
        """Whether there are as many values as the shape says; no peer is made to check."""
        return len(self.values) == math.prod(self.shape)

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        content = {"values": list(self.values), "shape": list(self.shape)}
        return {"type": "Tensor", "data": content}


class _Content(SeedModel):
    """A variant that holds one thing, under `data`."""

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        return {"type": self.variant_name(), **self.fields_to_wire(dialect)}


class Json(_Content):
    """Any JSON, null included."""

    data: JsonValue


class Bytes(_Content):
    """Raw bytes."""

    data: Octets


class Empty(SeedModel):
    """No value."""

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        return {"type": "Empty"}


class Object(_Content):
    """A Python pickle, which only the process that runs the user's code may open."""

    data: Octets


class Text(_Content):
    """A string."""

    data: str


def from_base64(value: object) -> object:
    """Decode standard padded base64; bytes are let through, the rest is left to refuse."""
    return binascii.a2b_base64(value, strict_mode=True) if isinstance(value, str) else value


def to_base64(data: bytes) -> str:
    """Encode as standard padded base64."""
    return binascii.b2a_base64(data, newline=False).decode()


Base64 = Annotated[bytes, BeforeValidator(from_base64)]
"""Bytes in Python, base64 on the wire."""


class Packed(SeedModel):
    """A value in Lineshaft's own packing; only Lineshaft peers know this variant."""

    data: Base64

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        return {"type": "Packed", "data": to_base64(self.data)}


def read_value(data: object) -> Value:
    """Read a value: `{"type", "data"}`, or the positional `[type, data]`.

    Raises:
        ProtocolError: It is no value.
    """
    if isinstance(data, Tensor | Json | Bytes | Empty | Object | Text | Packed):
        return data
    if is_object(data):
        if "type" not in data:
            raise ProtocolError("missing field `type`")
        return _read_content(data["type"], data.get("data", _ABSENT), named=True)
    if is_list(data):
        if len(data) not in (1, 2):
            raise ProtocolError(
                f"invalid length {len(data)}, expected adjacently tagged enum Value"
            )
        return _read_content(data[0], data[1] if len(data) == 2 else _ABSENT, named=False)
    raise ProtocolError(f"invalid type: {kind_of(data)}, expected adjacently tagged enum Value")


def _read_content(name: object, content: object, *, named: bool) -> Value:
    variant = variant_named(name, _VARIANTS)
    if variant is Empty:
        if content is not _ABSENT and content is not None:
            raise ProtocolError(f"invalid type: {kind_of(content)}, expected unit")
        return Empty()
    if content is _ABSENT:
        raise ProtocolError("missing field `data`")
    if variant is not Tensor:
        return variant.from_wire({"data": content})
    # Upstream refuses a positional tensor everywhere, though its own streams send them. We read
    # them where they come from: inside a positional value.
    if named and not is_object(content):
        raise ProtocolError(
            f"invalid type: {kind_of(content)}, expected struct variant Value::Tensor"
        )
    return Tensor.from_wire(content)


Value: TypeAlias = Annotated[
    Tensor | Json | Bytes | Empty | Object | Text | Packed, PlainValidator(read_value)
]
"""Any value; usable as the type of a field, where it is read from the wire form."""

_ABSENT: Final = object()
_VARIANTS: Final[Mapping[str, type[Value]]] = by_name(
    Tensor, Json, Bytes, Empty, Object, Text, Packed
)
