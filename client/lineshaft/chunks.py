"""Several calls in one job; workers import this module."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


class ChunkCall(Generic[ResultT]):
    """Calls a function for each of several argument tuples, and returns the results in a list."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., ResultT]) -> None:
        self.function = function

    def __call__(self, chunk: list[tuple[object, ...]]) -> list[ResultT]:
        """Call the function for each."""
        return [self.function(*arguments) for arguments in chunk]


def chunks_of(
    arguments: Iterable[tuple[object, ...]], size: int
) -> Iterator[list[tuple[object, ...]]]:
    """Cut into lists of `size`; the last one may be shorter."""
    iterator = iter(arguments)
    while chunk := list(islice(iterator, size)):
        yield chunk
