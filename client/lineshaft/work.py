"""What a client can be asked to run, made ready as jobs; the same for all kinds of client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lineshaft.options import RESERVED, Options
from lineshaft.shipping import Prepared, Shipper
from lineshaft_runtime.bundles import PipelineBundle, encode_bundle
from lineshaft_runtime.packing import BytesLike, pack_bytes

if TYPE_CHECKING:
    from lineshaft.fitted import Fitted
    from lineshaft.graph import Graph
    from lineshaft.pipeline import Pipeline

FilesLike = Mapping[str, "bytes | str | Path"] | Iterable["str | Path"]
"""Names in the job with contents or paths; or just paths, which keep their names."""


@dataclass(frozen=True, slots=True)
class Work:
    """Makes jobs of one client with the options it is set to."""

    shipper: Shipper
    options: Options = field(default_factory=Options)
    takes_options: bool = True
    """Whether the reserved names among a function's arguments are options of the job."""

    def with_options(self, given: Mapping[str, object]) -> Work:
        """Set options for what follows; all arguments of a function are then its own.

        Raises:
            InvalidJobError: A name or value is not possible.
        """
        return replace(self, options=self.options.updated(given), takes_options=False)

    def call(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> Prepared:
        """Prepare the call of a function.

        Raises:
            CannotPackError: The function or an argument cannot leave the process.
            InvalidJobError: An option is not possible.
        """
        options = self.options
        if self.takes_options and not RESERVED.isdisjoint(kwargs):
            options = options.updated({key: kwargs[key] for key in kwargs.keys() & RESERVED})
            kwargs = {key: value for key, value in kwargs.items() if key not in RESERVED}
        return self.shipper.call(function, args, kwargs, options)

    def fit(self, subject: Pipeline | Graph, x: object, y: object) -> Prepared:
        """Prepare a fit.

        Raises:
            CannotPackError: A filter or the data cannot leave the process.
            GraphError: The graph cannot be compiled.
        """
        from lineshaft.fitted import graph_payload  # noqa: PLC0415 - only those who use plans pay

        graph = graph_of(subject)

        def payload() -> list[BytesLike]:
            return graph_payload(graph, x, y=y, mode="fit")

        return self.shipper.plan(payload, self.options, name="fit")

    def forward(self, subject: Fitted | Pipeline | Graph, x: object) -> Prepared:
        """Prepare a forward.

        Raises:
            CannotPackError: A filter, a state or the input cannot leave the process.
            GraphError: The graph cannot be compiled.
        """
        from lineshaft.fitted import Fitted, graph_payload  # noqa: PLC0415 - as in fit

        def payload() -> list[BytesLike]:
            if isinstance(subject, Fitted):
                return subject.payload(x)
            return graph_payload(graph_of(subject), x)

        return self.shipper.plan(payload, self.options, name="forward")

    def run(
        self,
        entry_point: str,
        *,
        files: FilesLike = (),
        requirements: Iterable[str] = (),
        params: Mapping[str, object] | None = None,
        input_data: object = None,
        options: Mapping[str, object] | None = None,
    ) -> Prepared:
        """Prepare a pipeline job.

        Raises:
            BundleError: A file may not be there, or there is too much.
            CannotPackError: A parameter or the data cannot leave the process.
            InvalidJobError: An option is not possible.
            OSError: A file cannot be read.
        """

        def bundle() -> bytes:
            return encode_bundle(
                PipelineBundle(
                    files=tuple(_read(files)),
                    requirements=tuple(requirements),
                    entry_point=entry_point,
                    input_data=None
                    if input_data is None
                    else pack_bytes(input_data, name="input_data"),
                    params=pack_bytes(dict(params or {}), name="params"),
                )
            )

        data = self.shipper.by_value(bundle)
        return self.shipper.pipeline(data, self.options.updated(options or {}), name=entry_point)


def graph_of(subject: Pipeline | Graph) -> Graph:
    """Return a pipeline as a graph; a graph as it is."""
    from lineshaft.graph import Graph  # noqa: PLC0415 - only those who use plans pay

    return subject if isinstance(subject, Graph) else subject.graph


def fitted_of(subject: Pipeline | Graph, data: BytesLike) -> Fitted:
    """Return what a fit gave.

    Raises:
        PackingError: It is no such result, or cannot be unpacked here.
    """
    from lineshaft.fitted import Fitted  # noqa: PLC0415 - only those who use plans pay
    from lineshaft_runtime.plans.work import read_outcome  # noqa: PLC0415 - likewise

    return Fitted(graph_of(subject), read_outcome(data).states)


def output_of(data: BytesLike) -> object:
    """Return what a forward gave.

    Raises:
        PackingError: It is no such result, or cannot be unpacked here.
    """
    from lineshaft_runtime.plans.work import read_outcome  # noqa: PLC0415 - as above

    return read_outcome(data).output


def _read(files: FilesLike) -> Iterable[tuple[str, bytes]]:
    if not isinstance(files, Mapping):
        for path in files:
            # A name that leads out of this folder is refused with the bundle.
            yield from _read_path(Path(path).as_posix(), Path(path))
        return
    for name, content in cast("Mapping[str, bytes | str | Path]", files).items():
        match content:
            case bytes():
                yield name, content
            case Path():
                yield from _read_path(name, content)
            case str():
                yield name, content.encode()


def _read_path(name: str, path: Path) -> Iterable[tuple[str, bytes]]:
    if not path.is_dir():
        if path.is_absolute() and name == path.as_posix():
            name = path.name
        yield name, path.read_bytes()
        return
    base = path.name if path.is_absolute() and name == path.as_posix() else name
    for each in sorted(path.rglob("*")):
        inner = each.relative_to(path)
        if each.is_file() and not _HIDDEN.intersection(inner.parts):
            yield (
                f"{base}/{inner.as_posix()}" if base not in {"", "."} else inner.as_posix(),
                (each.read_bytes()),
            )


_HIDDEN = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache"})
