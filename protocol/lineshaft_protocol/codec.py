"""Control messages as text frames: one message, or a batch as a JSON array of messages."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from lineshaft_protocol import client_messages, worker_messages
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.wire import Wire

CONTROL_BYTES_MAX = 1024 * 1024
"""Longest control frame, in bytes."""

BATCH_BYTES = 256 * 1024
"""A batch is sent once it is this long, in bytes."""

MessageT = TypeVar("MessageT")


class Codec(Generic[MessageT]):
    """Reads and writes the messages of one direction.

    What reads is made when the first message comes: a process reads one or two directions of
    four, and to make all takes a good part of a client's import.
    """

    def __init__(
        self,
        one: Callable[[], TypeAdapter[MessageT]],
        many: Callable[[], TypeAdapter[list[MessageT]]],
    ) -> None:
        self._make_one, self._make_many = one, many

    @cached_property
    def _one(self) -> TypeAdapter[MessageT]:
        return self._make_one()

    @cached_property
    def _many(self) -> TypeAdapter[list[MessageT]]:
        return self._make_many()

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


FROM_CLIENT: Codec[client_messages.FromClient] = Codec(
    lambda: TypeAdapter(client_messages.FromClient),
    lambda: TypeAdapter(list[client_messages.FromClient]),
)
TO_CLIENT: Codec[client_messages.ToClient] = Codec(
    lambda: TypeAdapter(client_messages.ToClient),
    lambda: TypeAdapter(list[client_messages.ToClient]),
)
FROM_WORKER: Codec[worker_messages.FromWorker] = Codec(
    lambda: TypeAdapter(worker_messages.FromWorker),
    lambda: TypeAdapter(list[worker_messages.FromWorker]),
)
TO_WORKER: Codec[worker_messages.ToWorker] = Codec(
    lambda: TypeAdapter(worker_messages.ToWorker),
    lambda: TypeAdapter(list[worker_messages.ToWorker]),
)
