"""What daemon and runner say to each other: tagged msgpack arrays on a Unix stream socket.

A msgpack object says where it ends, so the objects follow each other without a length before them.
Nothing larger than `INLINE_BYTES_MAX` is in a frame: it lies in a file of the runner's folder,
whose name both ends make from the ticket (`files.py`), so no path ever comes from a runner.

This module is imported by every runner: it stays small.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs

INLINE_BYTES_MAX = 32 * 1024
FRAME_BYTES_MAX = 512 * 1024
"""Also bounds what a broken runner can make the daemon hold."""

Ends = tuple[int, int, int]
"""Sizes of a runner's spool, stdout and stderr, in bytes: an attempt's own part is between two."""


class FrameError(Exception):
    """The other end sent something that is no frame; the connection is of no more use."""


class Execute(NamedTuple):
    """Daemon: run this after what was sent before."""

    ticket: int
    """Number of the attempt within this runner; names its files."""
    job_id: str
    attempt: int
    kind: str
    name: str
    code_id: str
    code: bytes | str | None
    """The pickled function or its path; None if this runner was sent it before."""
    payload: bytes | str
    run_s: float | None
    memory_bytes: int | None
    lease_s: float | None = None
    """How long it may go on when nobody hears of the coordinator; None: as all that say nothing."""
    grace_s: float | None = None
    """How long it may take to end itself then."""


class Revoke(NamedTuple):
    """Daemon: do not start this attempt, if you have not yet."""

    ticket: int


class Ack(NamedTuple):
    """Daemon: the coordinator has these results; forget them."""

    tickets: list[int]


class Answer(NamedTuple):
    """Daemon: a child job ended. One of result and failure is set."""

    request: int
    result: bytes | str | None
    failure: list[object] | None


class Hello(NamedTuple):
    """Runner: first on every connection."""

    runner_id: str
    pid: int
    ticket: int
    """The attempt it is executing; 0 for none."""


class Done(NamedTuple):
    """Runner: an attempt ended. Repeated on each connection until acknowledged."""

    ticket: int
    job_id: str
    attempt: int
    kind: str
    status: str
    """"ok", "failed", "paused", or (only in files the daemon writes) "stopped"."""
    result: bytes | None
    """None if the result is in a file, or there is none."""
    size_bytes: int
    sha256: str
    failure: list[object] | None
    """The fields of `reports.Failure`, in order."""
    started_wall: float
    run_s: float
    peak_bytes: int | None
    begins: list[int]
    ends: list[int]
    has_children: bool
    """Processes that the attempt started are still there."""


class Revoked(NamedTuple):
    """Runner: answer to Revoke."""

    ticket: int
    is_revoked: bool


class Spawn(NamedTuple):
    """Runner: a plan wants this part run elsewhere, and waits."""

    ticket: int
    request: int
    target: str
    """JSON."""
    payload: bytes | None
    """None if it is in a file."""


Frame = Execute | Revoke | Ack | Answer | Hello | Done | Revoked | Spawn

_CLASSES: tuple[type[Frame], ...] = (Execute, Revoke, Ack, Answer, Hello, Done, Revoked, Spawn)
_TAGS: dict[type[Frame], int] = {kind: tag for tag, kind in enumerate(_CLASSES)}
_NONE = type(None)
_TYPES: dict[type[Frame], tuple[type | tuple[type, ...], ...]] = {
    Execute: (
        int, str, int, str, str, str, (bytes, str, _NONE), (bytes, str), (float, int, _NONE),
        (int, _NONE), (float, int, _NONE), (float, int, _NONE),
    ),
    Revoke: (int,),
    Ack: (list,),
    Answer: (int, (bytes, str, _NONE), (list, _NONE)),
    Hello: (str, int, int),
    Done: (
        int, str, int, str, str, (bytes, _NONE), int, str, (list, _NONE), float, float,
        (int, _NONE), list, list, bool,
    ),
    Revoked: (int, bool),
    Spawn: (int, int, str, (bytes, _NONE)),
}  # fmt: skip


class _Unpacker(Protocol):
    def feed(self, data: bytes) -> None: ...
    def __iter__(self) -> Iterator[object]: ...


# The casts stand in for msgpack's missing stubs.
_packb = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpacker = cast("Callable[..., _Unpacker]", msgpack.Unpacker)


def encode(frame: Frame) -> bytes:
    """Return the frame as bytes."""
    return _packb((_TAGS[type(frame)], *frame))


class FrameReader:
    """Makes frames of the pieces in which bytes arrive."""

    def __init__(self) -> None:
        self._unpacker = _unpacker(max_buffer_size=FRAME_BYTES_MAX)

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return the frames that are whole.

        Raises:
            FrameError: The bytes are no frames of ours.
        """
        try:
            self._unpacker.feed(data)
            return [_decode(item) for item in self._unpacker]
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise FrameError(str(error)) from error


def decode_one(data: bytes) -> Frame:
    """Return the frame that `encode` was given.

    Raises:
        FrameError: The data are not one whole frame.
    """
    frames = FrameReader().feed(data)
    if len(frames) != 1:
        raise FrameError(f"{len(data)} bytes hold {len(frames)} frames")
    return frames[0]


def _decode(item: object) -> Frame:
    if not isinstance(item, list) or not item:
        raise FrameError("a frame is an array with something in it")
    tag, *fields = cast("list[object]", item)
    if not isinstance(tag, int) or not 0 <= tag < len(_CLASSES):
        raise FrameError(f"unknown frame {tag!r}")
    kind = _CLASSES[tag]
    kinds = _TYPES[kind]
    if len(fields) != len(kinds) or not all(map(isinstance, fields, kinds)):
        raise FrameError(f"bad fields in {kind.__name__}")
    return cast("Callable[..., Frame]", kind)(*fields)
