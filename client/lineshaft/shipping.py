"""What a job consists of, made ready to be sent: its description, and the blobs it needs."""

import hashlib
import itertools
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import ValidationError

from lineshaft.chunks import ChunkCall
from lineshaft.code_shelf import Code, CodeShelf
from lineshaft.errors import InvalidJobError
from lineshaft.local_modules import LocalModules, needed_of
from lineshaft.options import Options, first_fault
from lineshaft_protocol.families import item_id
from lineshaft_protocol.ids import BlobId, JobId
from lineshaft_protocol.jobs import (
    FILES_MAX,
    INLINE_BYTES_MAX,
    MODULES_MAX,
    ArrayItem,
    Environment,
    JobKind,
    JobSpec,
    Payload,
)
from lineshaft_protocol.values import value
from lineshaft_runtime.bundles import FileRef, PipelineBundle, encode_bundle
from lineshaft_runtime.collecting import Collected
from lineshaft_runtime.data_refs import collected
from lineshaft_runtime.laid_files import LaidFile
from lineshaft_runtime.packing import PLAIN, BytesLike, pack, pack_plain, packed_size

TOGETHER_BYTES_MAX = INLINE_BYTES_MAX // 2
"""Files that are this few in all go along with the job itself: no upload is faster."""
ALONE_BYTES_MIN = 1024
"""Shorter files always go along: naming them would take as long as sending them."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_NOTHING = Collected()
"""Of jobs whose payload is files; never added to."""

MadeT = TypeVar("MadeT")
Lay = Callable[[Sequence[BytesLike]], LaidFile | None]


@value()
class Blob:
    """Bytes that are sent once, before the jobs that need them."""

    id: BlobId
    data: bytes | memoryview
    is_code: bool = False
    """Whether later jobs are likely to need it as well."""
    laid: LaidFile | None = None
    """Where it lies already, if the coordinator is on this machine."""

    def read(self, offset: int, size_bytes: int) -> memoryview:
        """Return a part, without a copy."""
        return memoryview(self.data)[offset : offset + size_bytes]


@value()
class Prepared:
    """A job that can be submitted, and again after a cut."""

    spec: JobSpec
    blobs: tuple[Blob, ...] = ()


@value()
class _Call:
    """A call of a function without anything special, which others are likely to be like."""

    options: Options
    code: Code
    name: str
    prepared: Prepared


LETTERS = "0123456789abcdefghijklmnopqrstuv"
LETTER_BITS = 5
LETTER_COUNT = 6
IDS_SINCE_S = 1_735_689_600
"""The start of 2025; six letters of seconds last for 34 years from then."""


def _in_letters(number: int) -> str:
    shifts = range(LETTER_BITS * (LETTER_COUNT - 1), -1, -LETTER_BITS)
    return "".join(LETTERS[number >> shift & 31] for shift in shifts)


class Shipper:
    """Makes jobs ready. May be used in several threads at once."""

    def __init__(self, modules: LocalModules | None = None) -> None:
        self._modules = modules or LocalModules()
        self._codes = CodeShelf(self._modules)
        # The time first: ids that rise keep the coordinator's indexes compact, which doubles how
        # fast it keeps jobs when very many are live.
        self._prefix = _in_letters(int(time.time()) - IDS_SINCE_S) + _in_letters(
            secrets.randbits(LETTER_BITS * LETTER_COUNT)
        )
        self._numbers = itertools.count(1)
        self._last: _Call | None = None
        self.lay: Lay = _kept_in_memory
        """Writes a large payload to where it will be taken from; None if it must be kept here."""

    def call(
        self,
        function: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        options: Options,
    ) -> Prepared:
        """Prepare a call of a function.

        Args are packed now, so that the caller may change them afterwards.

        Raises:
            CannotPackError: The function or an argument cannot leave the process.
            InvalidJobError: An option is out of its range.
        """
        found, plain = _NOTHING, None
        if not kwargs and PLAIN.issuperset(map(type, args)):
            # They name no module, and looking costs as much as packing them.
            plain = pack_plain((tuple(args), dict(kwargs)))
            buffers: list[BytesLike] = [plain]
        else:
            with self._modules.by_value(), collected() as found:
                buffers = pack((tuple(args), dict(kwargs)), name="(args, kwargs)")
        code = self._codes.code(function, found.by_value)
        name = _name_of(function) if options.name is None else options.name
        last = self._last
        if plain is not None and len(plain) > INLINE_BYTES_MAX:
            plain = None
        if last is not None and plain is not None and _is_like(last, options, code, name):
            # What they share was checked then; of thousands of calls this is half of the work.
            payload = Payload.of_bytes(plain)
            return Prepared(last.prepared.spec.like(self._new_id(), payload), last.prepared.blobs)
        made = self._prepared("function", buffers, options, name=name, code=code, found=found)
        if plain is not None:
            self._last = _Call(options, code, name, made)
        return made

    def value(self, value: object) -> Blob:
        """Pack a value that jobs will refer to.

        Raises:
            CannotPackError: Some part cannot leave the process.
        """
        return self._blob(self.by_value(lambda: pack(value)))

    def plan(
        self,
        make: Callable[[], list[BytesLike]],
        options: Options,
        *,
        name: str,
        kind: JobKind = "plan",
    ) -> Prepared:
        """Prepare the run of a plan.

        Args:
            make: Makes the payload; what it pickles of local modules goes by value.
            options: Of the job.
            name: For a job that was given none.
            kind: "stream" for a plan that chunks will pass through.

        Raises:
            CannotPackError: A filter or the data cannot leave the process.
            InvalidJobError: An option is out of its range.
        """
        with collected() as found:
            buffers = self.by_value(make)
        # Nothing is called; its files are there before its filters are loaded.
        code = self._codes.files(found.by_value) if found.by_value else None
        name = options.name or name
        return self._prepared(kind, buffers, options, name=name, code=code, found=found)

    def pipeline(
        self, bundle: PipelineBundle, options: Options, *, name: str, told: str | None = None
    ) -> Prepared:
        """Prepare a pipeline job from its bundle, with its files as blobs of their own.

        Args:
            bundle: Its files and data.
            options: Of the job.
            name: For a job that was given none.
            told: Its parameters as JSON, for its run record.

        Raises:
            BundleError: The bundle breaks a rule.
            InvalidJobError: An option is out of its range.
        """
        bundle, files = _apart(bundle)
        data: list[BytesLike] = [encode_bundle(bundle)]
        options = replace(options, told=told)
        return self._prepared("pipeline", data, options, name=options.name or name, files=files)

    def array(
        self,
        bundle: PipelineBundle,
        each_params: Sequence[bytes],
        options: Options,
        *,
        name: str,
        at_most: int | None,
        told: Sequence[str | None],
    ) -> tuple[str, list[Prepared]]:
        """Prepare a job array: pipeline jobs that differ in their parameters alone.

        Args:
            bundle: What they have in common; its files go to the coordinator once.
            each_params: Packed parameters, those of item 0 first.
            options: Of each job.
            name: For jobs that were given none.
            at_most: How many may be under way at a time; None for as many as there is room for.
            told: The parameters of each as JSON, for its run record.

        Returns:
            The array's id, and its items.

        Raises:
            BundleError: The bundle breaks a rule.
            InvalidJobError: An option is out of its range.
        """
        bundle, files = _apart(bundle, together_bytes_max=0)
        array_id, items = self._new_id(), list[Prepared]()
        for index, params in enumerate(each_params):
            data: list[BytesLike] = [encode_bundle(bundle._replace(params=params))]
            place = {"array_id": array_id, "item": index, "count": len(each_params)}
            item = {**place, "at_most": at_most}
            items.append(
                self._prepared(
                    "pipeline",
                    data,
                    replace(options, told=told[index]),
                    name=options.name or name,
                    files=files,
                    item=item,
                )
            )
        return array_id, items

    def by_value(self, make: Callable[[], MadeT]) -> MadeT:
        """Call something that pickles; the user's own modules go by value meanwhile."""
        with self._modules.by_value():
            return make()

    def _prepared(
        self,
        kind: JobKind,
        buffers: list[BytesLike],
        options: Options,
        *,
        name: str,
        code: Code | None = None,
        files: tuple[Blob, ...] = (),
        found: Collected = _NOTHING,
        item: Mapping[str, object] | None = None,
    ) -> Prepared:
        payload, blob = self._payload(buffers)
        environment, environment_blob = self._environment(options)
        try:
            place = None if item is None else ArrayItem.model_validate(item)
            fields: dict[str, object] = {
                "job_id": self._new_id() if place is None else item_id(place.array_id, place.item),
                "array": place,
                "kind": kind,
                "payload": payload,
                "name": name[:200],
                "code": None if code is None else code.id,
                "files": (*(each.id for each in files), *found.refs) or None,
                "resources": options.resources,
                "tags": options.tags,
                "worker_id": options.worker_id,
                "after": options.after,
                "timeouts": options.timeouts,
                "secrets": None if options.secrets is None else dict(options.secrets),
                "backoff": options.backoff,
                "nodes": options.nodes,
                "processes": options.processes,
                "checkpoints_kept": options.checkpoints_kept,
                # A bundle is files, and its environment has a Python of its own.
                "python": _python(kind, options),
                "environment": environment,
                "modules": _modules(code, found) or options.modules,
                "experiment": options.experiment,
                "params": options.told,
            }
            # What says nothing is left out: pydantic would note and check each of them.
            given = {field: value for field, value in fields.items() if value is not None}
            given |= _unusual(options)
            spec = JobSpec.model_validate(given)
        except ValidationError as error:
            raise InvalidJobError(first_fault(error)) from error
        code_blob = None if code is None else Blob(code.id, code.data, is_code=True)
        blobs = (code_blob, *files, blob, environment_blob)
        return Prepared(spec, tuple([each for each in blobs if each is not None]))

    def _environment(self, options: Options) -> tuple[Environment | None, Blob | None]:
        needs = options.needs
        if needs is None:
            return None, None
        data = needs.requirements.text().encode()
        payload, blob = self._payload([data]) if data else (None, None)
        return Environment(requirements=payload, requires_python=needs.requires_python), blob

    def _payload(self, buffers: list[BytesLike]) -> tuple[Payload, Blob | None]:
        if packed_size(buffers) <= INLINE_BYTES_MAX:
            return Payload.of_bytes(b"".join(buffers)), None
        blob = self._blob(buffers)
        return Payload(blob=blob.id, size_bytes=len(blob.data)), blob

    def _blob(self, buffers: list[BytesLike]) -> Blob:
        """Make a copy, for the buffers are views of memory that the caller may change later."""
        if (laid := self.lay(buffers)) is not None:
            return Blob(laid.blob_id, laid.data, laid=laid)
        data = b"".join(buffers)
        return Blob(BlobId(hashlib.sha256(data).hexdigest()), data)

    def _new_id(self) -> JobId:
        return JobId(f"{self._prefix}-{next(self._numbers)}")


def _is_like(last: _Call, options: Options, code: Code, name: str) -> bool:
    return last.options is options and last.code is code and last.name == name


def _unusual(options: Options) -> dict[str, object]:
    """Name the numbers that differ from what a job has without them."""
    found: dict[str, object] = {}
    if options.priority != 0:
        found["priority"] = options.priority
    if options.retries != 0:
        found["retries"] = options.retries
    if options.preemptible is not False:
        found["preemptible"] = options.preemptible
    return found


def _apart(
    bundle: PipelineBundle, *, together_bytes_max: int = TOGETHER_BYTES_MAX
) -> tuple[PipelineBundle, tuple[Blob, ...]]:
    """Take the larger files out of a bundle, so that only those that changed are sent again."""
    sizes = [(len(content), path) for path, content in bundle.files if isinstance(content, bytes)]
    if sum(size_bytes for size_bytes, _ in sizes) <= together_bytes_max:
        return bundle, ()
    alone = {
        path for size_bytes, path in sorted(sizes)[-FILES_MAX:] if size_bytes >= ALONE_BYTES_MIN
    }
    files: list[tuple[str, bytes | FileRef]] = []
    blobs: dict[str, Blob] = {}
    for path, content in bundle.files:
        if path in alone and isinstance(content, bytes):
            digest = hashlib.sha256(content).hexdigest()
            # Code, because the next job is likely to have the same file.
            blobs[digest] = Blob(BlobId(digest), content, is_code=True)
            files.append((path, FileRef(digest, len(content))))
        else:
            files.append((path, content))
    return bundle._replace(files=tuple(files)), tuple(blobs.values())


def _modules(code: Code | None, found: Collected) -> tuple[str, ...] | None:
    """Return the modules without which code and arguments cannot be loaded; None for none."""
    if not found.modules:
        return None if code is None else code.modules or None
    whole = needed_of(found.modules)
    if code is not None:
        whole = tuple(each for each in whole if each not in code.brought)
        whole = tuple(dict.fromkeys((*code.modules, *whole)))[:MODULES_MAX]
    return whole or None


def _python(kind: JobKind, options: Options) -> str | None:
    if kind == "pipeline" or options.python == PYTHON:
        return options.python
    if options.python is not None:
        raise InvalidJobError(
            f"python={options.python!r}: what is pickled here can only be read by Python {PYTHON}; "
            "call it from that version, or run files: client.run('script.py', python=…)"
        )
    return PYTHON


def _kept_in_memory(buffers: Sequence[BytesLike]) -> LaidFile | None:
    return None


def _name_of(function: object) -> str:
    if isinstance(function, ChunkCall):
        return _name_of(function.function)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - any function
    name: object = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__
