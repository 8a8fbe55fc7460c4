"""How the seed protocol is written down: strict JSON, structs, tagged variants, dialects.

A struct is read by field name, or from a list of its fields in order; it is always written by
name. Three dialects are in use; each adds fields to the one before, and a reader ignores what it
does not know. So one model holds the fields of all dialects, and the dialect only decides what is
written: a later dialect's field goes to an earlier peer only if it says something.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    Strict,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypeIs

from lineshaft_protocol.errors import LineshaftError, ProtocolError

Dialect: TypeAlias = Literal["A", "B", "C", "unknown"]
"""Whose wording to use; `unknown` writes what all three dialects can read, at some cost."""

NESTING_MAX: Final = 64
"""Lists and objects inside each other; a legal plan of 30 levels stays below it."""

T = TypeVar("T")
Struct = TypeVar("Struct", bound="SeedModel")

U64 = Annotated[int, Field(ge=0, le=2**64 - 1)]
U32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
Items: TypeAlias = Annotated[tuple[T, ...], Strict(strict=False), FailFast()]
"""A list on the wire, a tuple in Python."""
Pair: TypeAlias = Annotated[tuple[str, T], Strict(strict=False)]
"""A list of a label and its content on the wire."""


class UnencodableError(LineshaftError):
    """A message holds something that the wire format cannot carry."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot be written in the plan protocol: {reason}")
        self.reason = reason


class SeedModel(BaseModel):
    """A struct of the seed protocol: immutable, strict about types, deaf to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    variant: ClassVar[str] = ""
    """Its name inside a tagged union; empty means the name of the class."""
    tag: ClassVar[str | None] = None
    """The field that holds the variant's name beside the other fields, if it is tagged so."""
    since: ClassVar[Mapping[str, Dialect]] = {}
    """Fields that dialect A does not have, and the dialect that added them."""

    @classmethod
    def variant_name(cls) -> str:
        """Return the name that stands for this class on the wire."""
        return cls.variant or cls.__name__

    @classmethod
    def wire_order(cls, items: list[object]) -> tuple[str, ...]:
        """Return the fields that the items of a positional struct stand for, in order."""
        del items
        return tuple(cls.model_fields)

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read a decoded document.

        Raises:
            ProtocolError: A field is missing or has a wrong type or value.
        """
        if not (is_object(data) or is_list(data) or isinstance(data, cls)):
            raise ProtocolError(f"invalid type: {kind_of(data)}, expected struct {cls.__name__}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ProtocolError(_reason(error)) from None

    def to_wire(self, dialect: Dialect = "A") -> object:
        """Return what a JSON or msgpack encoder writes for this struct."""
        return self.fields_to_wire(dialect)

    def fields_to_wire(self, dialect: Dialect) -> dict[str, object]:
        """Return the fields that the dialect knows, and later ones that say something."""
        fields: dict[str, object] = {} if self.tag is None else {self.tag: self.variant_name()}
        for name, field in type(self).model_fields.items():
            value: object = getattr(self, name)
            is_new = _ORDER.index(self.since.get(name, "A")) > _ORDER.index(dialect)
            if not (is_new and value == field.get_default(call_default_factory=False)):
                fields[name] = plain(value, dialect)
        return fields

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: object) -> object:
        if not is_list(data):
            return data
        names = cls.wire_order(data)
        if len(data) > len(names):
            raise ProtocolError(
                f"invalid length {len(data)}, expected struct {cls.__name__} "
                f"with {len(names)} elements"
            )
        return dict(zip(names, data, strict=False))

    @model_serializer(mode="plain")
    def _dump(self) -> object:
        return self.to_wire()


_ORDER: Final[tuple[Dialect, ...]] = ("A", "B", "C", "unknown")


def plain(value: object, dialect: Dialect) -> object:
    """Return a field's value as documents hold it: no models, no tuples, no bytes."""
    if isinstance(value, SeedModel):
        return value.to_wire(dialect)
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)  # A narrowed `object` says nothing of items.
        return [plain(item, dialect) for item in items]
    if is_object(value):
        return {key: plain(item, dialect) for key, item in value.items()}
    return value


def is_object(data: object) -> TypeIs[dict[str, object]]:
    """Whether a decoded document is an object; the decoders let no other keys through."""
    return isinstance(data, dict)


def is_list(data: object) -> TypeIs[list[object]]:
    """Whether a decoded document is a list."""
    return isinstance(data, list)


def read_tagged(data: object, *, tag: str, variants: Mapping[str, type[Struct]]) -> Struct:
    """Read an internally tagged union: the variant's name beside its fields, or first in a list.

    Raises:
        ProtocolError: No tag, an unknown variant, or wrong fields.
    """
    for variant in variants.values():
        if isinstance(data, variant):
            return data
    if is_object(data):
        if tag not in data:
            raise ProtocolError(f"missing field `{tag}`")
        return variant_named(data[tag], variants).from_wire(data)
    if is_list(data) and data:
        return variant_named(data[0], variants).from_wire(data[1:])
    raise ProtocolError(f"invalid type: {kind_of(data)}, expected an object tagged `{tag}`")


def variant_named(name: object, variants: Mapping[str, T]) -> T:
    """Return the variant of that name.

    Raises:
        ProtocolError: There is none; the reason lists those that exist.
    """
    if not isinstance(name, str):
        raise ProtocolError(f"invalid type: {kind_of(name)}, expected variant identifier")
    if name not in variants:
        known = ", ".join(f"`{each}`" for each in variants)
        expected = known if len(variants) == 1 else f"one of {known}"
        raise ProtocolError(f"unknown variant `{name[:80]}`, expected {expected}")
    return variants[name]


def by_name(*classes: type[Struct]) -> Mapping[str, type[Struct]]:
    """Return the classes by the names that stand for them on the wire."""
    return {each.variant_name(): each for each in classes}


def decode_json(text: str | bytes) -> JsonValue:
    """Parse one JSON document from an untrusted peer.

    Raises:
        ProtocolError: Not UTF-8, not JSON, a key twice in an object, a number that is not finite,
            a lone surrogate, or nested deeper than `NESTING_MAX`.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"invalid unicode at byte {error.start}") from None
    _check_nesting(text)
    try:
        document: JsonValue = json.loads(
            text,
            object_pairs_hook=unique_keys,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        what = error.msg.replace("Expecting", "expected")
        raise ProtocolError(f"{what} at line {error.lineno} column {error.colno}") from None
    except ValueError:  # Python refuses to parse integers of thousands of digits.
        raise ProtocolError("number out of range") from None
    if _SURROGATE.search(text):
        _check_surrogates(document)
    return document


def encode_json(document: object) -> str:
    """Write a document as compact JSON.

    Raises:
        UnencodableError: It holds NaN, an infinity, a lone surrogate, or no JSON type.
    """
    # pydantic's writer is eight times faster than json's on tensors, but writes NaN.
    try:
        text = to_json(document, inf_nan_mode="constants").decode()
        if "NaN" in text or "Infinity" in text:
            json.dumps(document, allow_nan=False)  # Only a number raises, not these words in text.
    except (PydanticSerializationError, UnicodeError, ValueError, TypeError) as error:
        raise UnencodableError(str(error)) from None
    return text


def unique_keys(pairs: list[tuple[str, T]]) -> dict[str, T]:
    """Build an object, the way upstream's parser does: a key may come once.

    Raises:
        ProtocolError: A key comes twice.
    """
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    names = [name for name, _ in pairs]
    twice = next(name for index, name in enumerate(names) if name in names[:index])
    raise ProtocolError(f"duplicate field `{twice[:80]}`")


def kind_of(value: object) -> str:
    """Name the type of a decoded document as upstream's errors do."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "floating point"
        case str():
            return "string"
        case list() | tuple():
            return "sequence"
        case dict():
            return "map"
        case bytes():
            return "byte array"
        case _:
            return type(value).__name__


def _octets(value: object) -> object:
    """Read a list of integers 0 to 255; anything else is left to pydantic to refuse."""
    if not is_list(value):
        return value
    # One pass in C for each check: such lists have millions of items, and bool is an int.
    if not set(map(type, value)) <= {int}:
        raise ValueError("a byte must be an integer")
    return bytes(cast("list[int]", value))  # It was just checked.


Octets = Annotated[bytes, BeforeValidator(_octets)]
"""Bytes in Python, a list of integers 0 to 255 on the wire."""
CacheKey = Annotated[Octets, Field(min_length=32, max_length=32)]

_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[][{}]', re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def _check_nesting(text: str) -> None:
    # Most documents have few brackets in all, and the scan is for the others.
    if text.count("[") + text.count("{") <= NESTING_MAX:
        return
    depth = 0
    for match in _STRUCTURE.finditer(text):
        token = match.group()
        if token in ("[", "{"):
            depth += 1
            if depth > NESTING_MAX:
                raise ProtocolError(f"recursion limit exceeded: nested deeper than {NESTING_MAX}")
        elif token in ("]", "}"):
            depth -= 1


def _check_surrogates(document: JsonValue) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ProtocolError("lone surrogate in a string") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ProtocolError("number out of range")
    return number


def _refuse_constant(name: str) -> object:
    raise ProtocolError(f"{name} is not JSON")


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"missing field `{first['loc'][-1]}`"
    text = first["msg"][:1].lower() + first["msg"][1:]
    return f"invalid value for `{where[:200]}`: {text}"
