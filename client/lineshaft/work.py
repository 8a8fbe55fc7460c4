"""What a client can be asked to run, made ready as jobs; the same for all kinds of client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, cast

from lineshaft.entry_points import check_entry_point
from lineshaft.errors import InvalidJobError
from lineshaft.job_files import FilesLike, JobFiles, read_files
from lineshaft.needed_modules import needed_modules
from lineshaft.options import RESERVED, Options
from lineshaft.shipping import Prepared, Shipper
from lineshaft_protocol.jobs import ARRAY_MAX
from lineshaft_protocol.values import value
from lineshaft_runtime.bundles import PipelineBundle
from lineshaft_runtime.packing import BytesLike, pack_bytes
from lineshaft_runtime.told_params import told_params

if TYPE_CHECKING:
    from lineshaft.fitted import Fitted
    from lineshaft.graph import Graph
    from lineshaft.pipeline import Pipeline


@value()
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
        if not callable(cast("object", function)):
            text = f"{function!r:.100} cannot be called; give a function and, apart, its arguments"
            raise InvalidJobError(f"{text}, as in submit(train, 3), not submit(train(3))")
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
            RequirementsError: What the filters require cannot be read, or is a contradiction.
        """
        from lineshaft.fitted import graph_payload  # noqa: PLC0415 - only those who use plans pay
        from lineshaft.graph_needs import with_needs  # noqa: PLC0415 - likewise

        graph = graph_of(subject)

        def payload() -> list[BytesLike]:
            return graph_payload(graph, x, y=y, mode="fit")

        return self.shipper.plan(payload, with_needs(self.options, graph), name="fit")

    def forward(self, subject: Fitted | Pipeline | Graph, x: object) -> Prepared:
        """Prepare a forward.

        Raises:
            CannotPackError: A filter, a state or the input cannot leave the process.
            GraphError: The graph cannot be compiled.
            RequirementsError: What the filters require cannot be read, or is a contradiction.
        """
        from lineshaft.fitted import Fitted, graph_payload  # noqa: PLC0415 - as in fit
        from lineshaft.graph_needs import with_needs  # noqa: PLC0415 - as in fit

        graph = graph_of(subject)

        def payload() -> list[BytesLike]:
            if isinstance(subject, Fitted):
                return subject.payload(x)
            return graph_payload(graph, x)

        return self.shipper.plan(payload, with_needs(self.options, graph), name="forward")

    def stream(self, subject: Fitted | Pipeline | Graph) -> Prepared:
        """Prepare a stream.

        Raises:
            CannotPackError: A filter or a state cannot leave the process.
            GraphError: The graph cannot be compiled.
            RequirementsError: What the filters require cannot be read, or is a contradiction.
        """
        from lineshaft.fitted import Fitted, graph_payload  # noqa: PLC0415 - as in fit
        from lineshaft.graph_needs import with_needs  # noqa: PLC0415 - as in fit

        graph = graph_of(subject)

        def payload() -> list[BytesLike]:
            if isinstance(subject, Fitted):
                return subject.payload(None)
            return graph_payload(graph, None)

        options = with_needs(self.options, graph)
        return self.shipper.plan(payload, options, name="stream", kind="stream")

    def run(
        self,
        entry_point: str,
        *,
        files: FilesLike = (),
        params: Mapping[str, object] | None = None,
        input_data: object = None,
        options: Mapping[str, object] | None = None,
    ) -> Prepared:
        """Prepare a pipeline job.

        Raises:
            BundleError: A name of a file is not possible.
            FilesError: There are too many or too large files, or one cannot be sent.
            CannotPackError: A parameter or the data cannot leave the process.
            InvalidJobError: An option is not possible.
            OSError: A file cannot be read.
            RequirementsError: A requirement cannot be read.
        """
        found, chosen = self._files_and_options(entry_point, files, options)

        def bundle() -> PipelineBundle:
            return PipelineBundle(
                files=found.contents,
                executables=found.executables,
                requirements=(),  # They are with the job, where its worker looks first.
                entry_point=entry_point,
                input_data=None
                if input_data is None
                else pack_bytes(input_data, name="input_data"),
                params=pack_bytes(by_name(params), name="params"),
            )

        made = self.shipper.by_value(bundle)
        told = told_params(params or {})
        return self.shipper.pipeline(made, chosen, name=entry_point, told=told)

    def array(
        self,
        entry_point: str,
        params: int | Sequence[Mapping[str, object]],
        *,
        files: FilesLike = (),
        at_most: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> tuple[str, list[Prepared]]:
        """Prepare a job array; returns its id and its items.

        Raises:
            InvalidJobError: It has no items, too many, or an option is not possible.
            BundleError: A name of a file is not possible.
            FilesError: There are too many or too large files, or one cannot be sent.
            CannotPackError: A parameter cannot leave the process.
            OSError: A file cannot be read.
            RequirementsError: A requirement cannot be read.
        """
        count = params if isinstance(params, int) else len(params)
        if not 1 <= count <= ARRAY_MAX:
            raise InvalidJobError(f"an array has 1 to {ARRAY_MAX} items, not {count}")
        if isinstance(params, int):
            params = [{"item": number} for number in range(params)]
        found, chosen = self._files_and_options(entry_point, files, options)

        def packed() -> list[bytes]:
            return [pack_bytes(by_name(each), name=f"params[{n}]") for n, each in enumerate(params)]

        each_params = self.shipper.by_value(packed)
        bundle = PipelineBundle(
            files=found.contents,
            executables=found.executables,
            requirements=(),
            entry_point=entry_point,
            input_data=None,
            params=each_params[0],
        )
        told = [told_params(each) for each in params]
        return self.shipper.array(
            bundle, each_params, chosen, name=entry_point, at_most=at_most, told=told
        )

    def _files_and_options(
        self, entry_point: str, files: FilesLike, options: Mapping[str, object] | None
    ) -> tuple[JobFiles, Options]:
        found = read_files(files)
        source = check_entry_point(entry_point, found.contents)
        chosen = self.options.updated(options or {})
        if source is not None and b"# /// script" in source:
            from lineshaft.requirements import read_script  # noqa: PLC0415 - few scripts do

            needs = read_script(source.decode(errors="replace"))
            chosen = replace(chosen, needs=needs.merged(chosen.needs) if chosen.needs else needs)
        modules = needed_modules(entry_point, found.contents)
        return found, replace(chosen, modules=modules) if modules else chosen


def by_name(params: Mapping[str, object] | None) -> dict[str, object]:
    """Return parameters as they are sent.

    Raises:
        InvalidJobError: They are something else than names with values.
    """
    # What a caller gives is not always what the types say.
    given = cast("object", {} if params is None else params)
    found = cast("Mapping[object, object]", given) if isinstance(given, Mapping) else None
    if found is None or not all(isinstance(name, str) for name in found):
        raise InvalidJobError(f"params are names with values, as {{'lr': 0.1}}, not {given!r:.100}")
    return {str(name): value for name, value in found.items()}


def graph_of(subject: Fitted | Pipeline | Graph) -> Graph:
    """Return what is run as a graph; a graph as it is.

    Raises:
        NoGraphError: It is something else.
    """
    from lineshaft.graph import Graph  # noqa: PLC0415 - only those who use plans pay
    from lineshaft.graph_errors import NoGraphError  # noqa: PLC0415 - likewise

    graph: object = subject if isinstance(subject, Graph) else getattr(subject, "graph", None)
    if not isinstance(graph, Graph):
        raise NoGraphError(subject)
    return graph


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
