"""How a job's progress, metrics and files reach the worker daemon: lines appended to one file.

A line is compact JSON, written with one `write(2)` to a file opened for appending, so threads and
child processes of a job may write at the same time, nobody waits for a network, and what was
written survives the death of the job and of the daemon. `NaN` and infinities are written as the
literals that Python's json reads back.

Imported by `lineshaft.run` in user code, so it imports almost nothing: `json` alone would take
longer than all else here.
"""

import os
import time

# What json.dumps is made of; json itself brings re and collections along.
from _json import encode_basestring_ascii as _quote
from _json import make_encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lineshaft_runtime.redaction import Redactor

LINE_BYTES_MAX = 64 * 1024
TEXT_CHARACTERS_MAX = 4096
"""A longer text is cut if its line would be too long."""
DEPTH_MAX = 8
ITEMS_MAX = 1000
INTEGER_BITS_MAX = 1024
ENVIRONMENT_VARIABLE = "LINESHAFT_SPOOL"
"""Names the spool of the running job; children of the job inherit it."""
FILES_VARIABLE = "LINESHAFT_FILES"
"""Beginning of the names of this attempt's files; children of the job inherit it, too."""


class SpoolWriter:
    """Appends to the spool of this process, and never raises: a job must not fail for its logs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._file = (0, 0)
        """Device and inode of the spool."""
        self.redactor: Redactor | None = None
        """Takes the secrets out of what the job says, if it has any."""
        if os.environ.get("LINESHAFT_SECRETS"):
            from lineshaft_runtime import redaction  # noqa: PLC0415 - few jobs have any

            self.redactor = redaction.Redactor.of(os.environ)
        self._seq = 0
        self._dropped = 0
        self._is_torn = False

    def write(self, kind: str, body: "Mapping[str, object]") -> None:
        """Append one event; if that fails it is counted, and the next line says how many."""
        self._seq += 1
        line = self._line(kind, body)
        if line is None:
            self._dropped += 1
            return
        if self.redactor is not None:
            line = self.redactor.clean(line)
        if self._dropped or self._is_torn:
            line = self._catch_up() + line
        try:
            written = os.write(self._opened(), line)
        except OSError:
            self._dropped += 1
            return
        if written < len(line):  # The disk filled up in the middle.
            self._is_torn = True
            self._dropped += 1
        else:
            self._is_torn = False
            self._dropped = 0

    def _opened(self) -> int:
        """Return the descriptor of the spool. Raises OSError."""
        if self._descriptor >= 0:
            # Who makes a daemon of himself closes all descriptors, and the number may be that of
            # the user's own file now.
            try:
                found = os.fstat(self._descriptor)
            except OSError:
                self._descriptor = -1
            else:
                if (found.st_dev, found.st_ino) == self._file:
                    return self._descriptor
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        found = os.fstat(descriptor)
        self._file = (found.st_dev, found.st_ino)
        self._descriptor = descriptor
        return descriptor

    def _line(self, kind: str, body: "Mapping[str, object]") -> bytes | None:
        start = f'{{"k":"{kind}","n":{self._seq},"t":{time.time()!r},"m":{time.monotonic()!r},"b":'
        try:
            text = "".join(_encode(body, 0))
            if len(text) < LINE_BYTES_MAX - len(start) - 2:  # Escaped, so a character is a byte.
                return f"{start}{text}}}\n".encode()
        except Exception:  # noqa: BLE001, S110 - objects of the user's are asked for their text
            pass
        try:
            text = "".join(_encode(_told(body, 0), 0))
        except Exception:  # noqa: BLE001 - as above
            return None
        line = f"{start}{text}}}\n".encode()
        return line if len(line) <= LINE_BYTES_MAX else None

    def _catch_up(self) -> bytes:
        """End a torn line, and say how many events are missing."""
        body = {"code": "events_dropped", "text": f"{self._dropped} events could not be written"}
        notice = self._line("notice", body) if self._dropped else None
        return (b"\n" if self._is_torn else b"") + (notice or b"")


class JobContext:
    """What `lineshaft.run` knows of the attempt that this process executes."""

    __slots__ = (
        "blobs",
        "has_saved",
        "input_data",
        "is_child",
        "is_pause_seen",
        "kept_folder",
        "params",
        "pause_file",
        "resume_file",
        "saved_file",
        "set_result",
        "spool",
    )

    def __init__(
        self,
        spool: SpoolWriter | None,
        *,
        params: "Mapping[str, object] | None" = None,
        input_data: "Callable[[], object] | None" = None,
        set_result: "Callable[[object], None] | None" = None,
        files: tuple[str, str, str] | None = None,
        blobs: str = "",
    ) -> None:
        self.blobs = blobs
        self.spool = spool
        self.params: Mapping[str, object] = params or {}
        self.input_data = input_data
        self.set_result = set_result
        self.kept_folder: str | None = files[0] if files else None
        self.pause_file: str | None = files[1] if files else None
        self.resume_file: str | None = files[2] if files else None
        self.is_child = False
        """Whether this process is not the one that was given the attempt."""
        self.saved_file = ""
        """Where a child of the job says that it saved, and the job looks; empty: nowhere."""
        self.is_pause_seen = False
        """The job asked whether it should pause, and was told so."""
        self.has_saved = False
        """It saved a checkpoint after that."""

    @property
    def is_pause_wanted(self) -> bool:
        """Whether somebody asked the job to pause, and did not take it back."""
        return self.pause_file is not None and os.path.exists(self.pause_file)  # noqa: PTH110 - pathlib is too slow to import

    @property
    def has_paused(self) -> bool:
        """Whether the end of the job's code is a pause: it asked, it saved, it is still wanted."""
        if not self.is_pause_wanted:
            return False
        return (self.is_pause_seen and self.has_saved) or self._has_a_child_saved

    @property
    def _has_a_child_saved(self) -> bool:
        try:
            wanted = os.stat(self.pause_file or "").st_mtime_ns  # noqa: PTH116 - see above
            return os.stat(self.saved_file).st_mtime_ns >= wanted  # noqa: PTH116 - see above
        except OSError:
            return False

    def note_saved(self) -> None:
        """A checkpoint was saved: if that was asked for, the end of the job may be a pause."""
        if not self.is_pause_seen:
            return
        self.has_saved = True
        if self.saved_file and self.is_child:
            try:
                os.close(os.open(self.saved_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                os.utime(self.saved_file)
            except OSError:  # The job then ends as one that did not save.
                pass


class _Place:
    # One process executes one attempt at a time, and any thread of the user's code may report on
    # it: a context variable would be empty in threads, so this is one place per process.
    context: JobContext | None = None


def attach(context: JobContext | None) -> None:
    """Say which attempt this process executes from now on."""
    _Place.context = context


def current() -> JobContext:
    """Return the attempt this process belongs to: attached, named by the environment, or none."""
    context = _Place.context
    if context is None:
        path, prefix = os.environ.get(ENVIRONMENT_VARIABLE), os.environ.get(FILES_VARIABLE)
        files = files_of(prefix) if path and prefix else None
        context = JobContext(SpoolWriter(path) if path else None, files=files)
        context.is_child = True
        context.saved_file = f"{prefix}saved" if files else ""
        _Place.context = context
    return context


def files_of(prefix: str) -> tuple[str, str, str]:
    """Return where copies go, a wish to pause is left, and a checkpoint lies."""
    return f"{prefix}kept", f"{prefix}pause", f"{prefix}resume"


def _plain(value: object) -> object:
    """Return a number or a text for what json does not know: array scalars, tensors, paths."""
    for name in ("item", "tolist"):
        convert = getattr(value, name, None)
        if callable(convert):
            try:
                return convert()
            except (ValueError, RuntimeError):  # An array of several numbers has no item.
                continue
    return str(value)


def _told(value: object, depth: int) -> object:
    """Return a copy that can be written whatever the user handed us, with less in it if need be."""
    try:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            is_small = value.bit_length() <= INTEGER_BITS_MAX
            return int(value) if is_small else "(an integer too large to tell)"
        if isinstance(value, str):
            return _cut(value)
        if depth >= DEPTH_MAX:
            return "(nested too deeply)"
        if isinstance(value, dict):
            items: list[tuple[object, object]] = list(value.items())[:ITEMS_MAX]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - anything
            return {_cut(str(key)): _told(each, depth + 1) for key, each in items}
        if isinstance(value, list | tuple):
            things: list[object] = list(value)[:ITEMS_MAX]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - likewise
            return [_told(each, depth + 1) for each in things]
        return _told(_plain(value), depth + 1)
    except Exception as error:  # noqa: BLE001 - as in `_line`
        return f"(cannot be told: {type(error).__name__})"


def _cut(text: str) -> str:
    """Return a text that is not too long."""
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}…"


# No markers: what contains itself ends in a RecursionError, and keeping track costs every call.
_encode = make_encoder(None, _plain, _quote, None, ":", ",", False, False, True)
