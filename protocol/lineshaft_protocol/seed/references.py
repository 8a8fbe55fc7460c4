"""Where data is, and how a plan's input and output travel: inside the message or by reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import PlainValidator

from lineshaft_protocol.seed.values import Value
from lineshaft_protocol.seed.wire import CacheKey, SeedModel, by_name, read_tagged


class _DataRef(SeedModel):
    tag: ClassVar[str | None] = "type"


class LocalRef(_DataRef):
    """A file of the worker; a path from a peer must not be opened unless we handed it out."""

    variant: ClassVar[str] = "Local"
    path: str


class S3Ref(_DataRef):
    """An object in S3."""

    variant: ClassVar[str] = "S3"
    bucket: str
    key: str
    region: str | None = None


class CachedRef(_DataRef):
    """A value that the worker has cached."""

    variant: ClassVar[str] = "Cached"
    cache_key: CacheKey


class StreamRef(_DataRef):
    """A stream of records somewhere."""

    variant: ClassVar[str] = "Stream"
    endpoint: str
    format: Literal["json_lines", "csv", "arrow", "protobuf"]


class InlineRef(_DataRef):
    """The value itself."""

    variant: ClassVar[str] = "Inline"
    value: Value


class ZarrRef(_DataRef):
    """A Zarr array in S3."""

    variant: ClassVar[str] = "Zarr"
    bucket: str
    array_path: str
    region: str | None = None


def read_data_ref(data: object) -> DataRef:
    """Read a reference.

    Raises:
        ProtocolError: It is none.
    """
    return read_tagged(data, tag="type", variants=_DATA_REFS)


DataRef: TypeAlias = Annotated[
    LocalRef | S3Ref | CachedRef | StreamRef | InlineRef | ZarrRef, PlainValidator(read_data_ref)
]
_DATA_REFS: Final[Mapping[str, type[DataRef]]] = by_name(
    LocalRef, S3Ref, CachedRef, StreamRef, InlineRef, ZarrRef
)


class InlineInput(SeedModel):
    """The input is in the message."""

    tag: ClassVar[str | None] = "source"
    variant: ClassVar[str] = "Inline"
    value: Value


class ReferenceInput(SeedModel):
    """The input is elsewhere."""

    tag: ClassVar[str | None] = "source"
    variant: ClassVar[str] = "Reference"
    data_ref: DataRef


def read_input_source(data: object) -> InputSource:
    """Read a plan's input.

    Raises:
        ProtocolError: It is none.
    """
    return read_tagged(data, tag="source", variants=_INPUTS)


InputSource: TypeAlias = Annotated[InlineInput | ReferenceInput, PlainValidator(read_input_source)]
_INPUTS: Final[Mapping[str, type[InputSource]]] = by_name(InlineInput, ReferenceInput)


class InlineOutput(SeedModel):
    """The output is in the message."""

    tag: ClassVar[str | None] = "delivery"
    variant: ClassVar[str] = "Inline"
    value: Value


class ReferenceOutput(SeedModel):
    """The output is at the worker, to be fetched; dialect A has no such thing."""

    tag: ClassVar[str | None] = "delivery"
    variant: ClassVar[str] = "Reference"
    data_ref: DataRef


OutputDelivery: TypeAlias = InlineOutput | ReferenceOutput
DELIVERIES: Final[Mapping[str, type[OutputDelivery]]] = by_name(InlineOutput, ReferenceOutput)
