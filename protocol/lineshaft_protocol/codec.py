"""Control messages as text frames: one message, or a batch as a JSON array of messages."""

from collections.abc import Callable, Iterable
from functools import cached_property
from types import GenericAlias
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.wire import Wire

if TYPE_CHECKING:
    from lineshaft_protocol import client_messages, worker_messages

CONTROL_BYTES_MAX = 1024 * 1024
"""Longest control frame, in bytes."""

BATCH_BYTES = 256 * 1024
"""A batch is sent once it is this long, in bytes."""

MessageT = TypeVar("MessageT")


class Codec(Generic[MessageT]):
    """Reads and writes the messages of one direction.

    What reads is made when the first message comes, and of models that are imported then: a process
    reads one or two directions of four, and all of them take a good part of a client's import.

    Args:
        union: Imports the messages, and returns the union of them.
    """

    def __init__(self, union: Callable[[], object]) -> None:
        self._union = union

    @cached_property
    def _one(self) -> TypeAdapter[MessageT]:
        return TypeAdapter(cast("type[MessageT]", self._union()))

    @cached_property
    def _many(self) -> TypeAdapter[list[MessageT]]:
        many = GenericAlias(list, (self._union(),))
        return TypeAdapter(cast("type[list[MessageT]]", many))

    def decode(self, text: bytes | str) -> list[MessageT]:
        """Read one frame.

        Raises:
            ProtocolError: It is not JSON, not a known message, or has a wrong field.
        """
        is_batch = text[:1] in (b"[", "[")
        try:
            return self._many.validate_json(text) if is_batch else [self._one.validate_json(text)]
        except ValidationError as error:
            raise ProtocolError(_first_fault(error)) from error

    @staticmethod
    def encode(message: Wire) -> bytes:
        """Write one message."""
        return message.__pydantic_serializer__.to_json(message, exclude_none=True)

    @classmethod
    def encode_batches(cls, messages: Iterable[bytes]) -> list[bytes]:
        """Join encoded messages into as few frames as their size allows."""
        every = list(messages)
        if every and sum(map(len, every)) + len(every) <= BATCH_BYTES:
            return [_joined(every)]
        frames: list[bytes] = []
        batch: list[bytes] = []
        size = 0
        for message in every:
            if batch and size + len(message) > BATCH_BYTES:
                frames.append(_joined(batch))
                batch, size = [], 0
            batch.append(message)
            size += len(message) + 1
        if batch:
            frames.append(_joined(batch))
        return frames


def _joined(batch: list[bytes]) -> bytes:
    return batch[0] if len(batch) == 1 else b"[" + b",".join(batch) + b"]"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    # The place first: a close frame has room for little more.
    return f"invalid message{f' at {place}' if place else ''}: {fault['msg']}"


def _from_client() -> object:
    from lineshaft_protocol.client_messages import FromClient  # noqa: PLC0415 - see Codec

    return FromClient


def _to_client() -> object:
    from lineshaft_protocol.client_messages import ToClient  # noqa: PLC0415 - see Codec

    return ToClient


def _from_worker() -> object:
    from lineshaft_protocol.worker_messages import FromWorker  # noqa: PLC0415 - see Codec

    return FromWorker


def _to_worker() -> object:
    from lineshaft_protocol.worker_messages import ToWorker  # noqa: PLC0415 - see Codec

    return ToWorker


FROM_CLIENT: "Codec[client_messages.FromClient]" = Codec(_from_client)
TO_CLIENT: "Codec[client_messages.ToClient]" = Codec(_to_client)
FROM_WORKER: "Codec[worker_messages.FromWorker]" = Codec(_from_worker)
TO_WORKER: "Codec[worker_messages.ToWorker]" = Codec(_to_worker)
