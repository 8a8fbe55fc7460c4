"""What may be said about a job besides what it runs."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypedDict, cast, runtime_checkable

from pydantic import ValidationError

from lineshaft.errors import InvalidJobError
from lineshaft_protocol.jobs import Backoff, Timeouts
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.values import value
from lineshaft_runtime.sizes import parse_size

if TYPE_CHECKING:
    from lineshaft.requirements import Needs, RequirementsLike


@runtime_checkable
class HasId(Protocol):
    """A job, or the future of one."""

    @property
    def id(self) -> str:
        """Of the job."""
        ...


class ResourceNames(TypedDict, total=False):
    """What a job needs on its worker."""

    cpus: float
    memory: int | str
    """Bytes, or text such as "8GiB"."""
    gpus: int
    gpu_memory: int | str
    """On each GPU; without it, a GPU is the job's alone."""


ResourcesLike: TypeAlias = Resources | ResourceNames | Mapping[str, object]


class JobOptions(TypedDict, total=False):
    """The names that `submit` keeps for itself; `client.options(...)` takes them as well."""

    name: str | None
    """What people call the job."""
    resources: ResourcesLike | None
    tags: Iterable[str]
    """Tags that the worker must all have."""
    worker: str | None
    """The only worker it may run on."""
    priority: int
    """-1000 to 1000; higher goes first."""
    retries: int
    """How often it may run again after its own code failed."""
    after: Iterable[str | HasId]
    """Jobs that must have succeeded before it starts."""
    timeout: float | None
    """Longest run, in seconds."""
    queue_timeout: float | None
    """Longest wait for a worker, in seconds."""
    prepare_timeout: float | None
    """Longest time from the moment a worker has it until its code begins, in seconds."""
    silence_timeout: float | None
    """Longest time in which it prints, reports and saves nothing, in seconds."""
    backoff: float | tuple[float, float] | None
    """Wait after its code failed, in seconds, doubled with each failure; or (first, longest)."""
    nodes: int | None
    """On how many workers a pipeline job runs at once; ``resources`` are those of each."""
    processes: int | None
    """In how many processes a pipeline job runs on each worker, as torchrun starts them;
    ``resources`` are those of all of them together."""
    preemptible: bool
    """Whether it may be asked to pause when a job of a higher priority finds no room."""
    checkpoints_kept: int | None
    """How many of its last checkpoints are kept; the coordinator's 3 if None."""
    requirements: "RequirementsLike"
    """What is installed for the job: lines as in a requirements.txt, or the path of such a file,
    a pyproject.toml or a script."""
    python: str | None
    """The Python version it runs with, as "3.12"."""
    lost_after: float | None
    """How long it waits for a worker that went silent, in seconds, before it starts elsewhere."""
    experiment: str | None
    """Where its run record lies; its name if None."""
    secrets: Iterable[str] | Mapping[str, str]
    """Names of secrets that the coordinator keeps, for variables of the same names; or variables
    and which secret each holds."""


RESERVED = frozenset(JobOptions.__annotations__)


@value()
class Options:
    """The same, checked."""

    name: str | None = None
    resources: Resources | None = None
    tags: tuple[str, ...] | None = None
    worker_id: str | None = None
    priority: int = 0
    retries: int = 0
    after: tuple[str, ...] | None = None
    timeouts: Timeouts | None = None
    secrets: Mapping[str, str] | None = None
    backoff: Backoff | None = None
    nodes: int | None = None
    processes: int | None = None
    preemptible: bool = False
    experiment: str | None = None
    checkpoints_kept: int | None = None
    needs: "Needs | None" = None
    """What it needs installed; None for whatever its worker has."""
    python: str | None = None
    modules: tuple[str, ...] | None = None
    """What a pipeline job cannot start without; found by us, not chosen."""
    told: str | None = None
    """The parameters of a pipeline job as JSON, for its run record; likewise."""

    def updated(self, given: Mapping[str, object]) -> "Options":
        """Return these options with those given by name instead.

        Raises:
            InvalidJobError: A name or value is not possible.
        """
        if not given:
            return self
        if unknown := given.keys() - RESERVED:
            there = ", ".join(sorted(RESERVED))
            raise InvalidJobError(f"no option {min(unknown)!r}; there are: {there}")
        # The names are checked; the values are by what they are put into.
        options = cast("JobOptions", given)
        try:
            changed = replace(
                self,
                timeouts=_timeouts(self.timeouts, options),
                name=options.get("name", self.name),
                nodes=options.get("nodes", self.nodes),
                processes=options.get("processes", self.processes),
                preemptible=options.get("preemptible", self.preemptible),
                experiment=options.get("experiment", self.experiment),
                priority=options.get("priority", self.priority),
                retries=options.get("retries", self.retries),
            )
            if "resources" in options:
                changed = replace(changed, resources=read_resources(options["resources"]))
            if "backoff" in options:
                changed = replace(changed, backoff=_backoff(options["backoff"]))
        except ValidationError as error:
            raise InvalidJobError(first_fault(error)) from error
        if "tags" in options:
            changed = replace(changed, tags=_texts("tags", options["tags"]))
        if "worker" in options:
            changed = replace(changed, worker_id=options["worker"])
        if "checkpoints_kept" in options:
            changed = replace(changed, checkpoints_kept=options["checkpoints_kept"])
        if "python" in options:
            changed = replace(changed, python=_python(options["python"]))
        if "requirements" in options:
            # Only those who name requirements pay for what reads them.
            from lineshaft.requirements import read_requirements  # noqa: PLC0415

            changed = replace(changed, needs=read_requirements(options["requirements"]))
        if "after" in options:
            ids = [each.id if isinstance(each, HasId) else each for each in options["after"]]
            changed = replace(changed, after=_texts("after", ids))
        if "secrets" in options:
            changed = replace(changed, secrets=_secrets(options["secrets"]))
        return changed


def read_resources(given: ResourcesLike | None) -> Resources | None:
    """Return what a job needs, from names such as `{"gpus": 1, "gpu_memory": "20GiB"}`.

    Raises:
        InvalidJobError: A name is unknown.
        SizeError: A text is no size.
        ValidationError: A value is out of its range.
    """
    if given is None or isinstance(given, Resources):
        return given
    if not isinstance(cast("object", given), Mapping):
        example = "{'gpus': 1, 'memory': '8GiB'}"
        raise InvalidJobError(f"resources={given!r:.100} are none; write them as {example}")
    fields: dict[str, object] = {}
    for key, wanted in given.items():
        match key:
            case "cpus" | "gpus":
                fields[key] = wanted
            case "memory" | "gpu_memory":
                fields[f"{key}_bytes"] = _size(wanted)
            case _:
                names = ", ".join(ResourceNames.__annotations__)
                raise InvalidJobError(f"no resource {key!r}; there are: {names}")
    if fields.get("gpu_memory_bytes") and not fields.get("gpus"):
        raise InvalidJobError(
            "gpu_memory is that of each GPU, and no GPU is asked for: add gpus, as in "
            "{'gpus': 1, 'gpu_memory': '20GiB'} (in the shell: --gpus 1)"
        )
    return Resources.model_validate(fields)


def _size(given: object) -> int:
    if not isinstance(given, int | str):
        raise InvalidJobError(f"{given!r} is no size; write bytes, or text such as '8GiB'")
    return parse_size(given)


def first_fault(error: ValidationError) -> str:
    """Return what is wrong in a sentence."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place}: {fault['msg']}"


def _timeouts(before: Timeouts | None, options: JobOptions) -> Timeouts | None:
    fields: dict[str, object] = {} if before is None else before.model_dump()
    if "timeout" in options:
        fields["run_s"] = options["timeout"]
    if "queue_timeout" in options:
        fields["queue_s"] = options["queue_timeout"]
    if "prepare_timeout" in options:
        fields["prepare_s"] = options["prepare_timeout"]
    if "silence_timeout" in options:
        fields["silence_s"] = options["silence_timeout"]
    if "lost_after" in options:
        fields["lost_after_s"] = options["lost_after"]
    if all(value is None for value in fields.values()):
        return None
    return Timeouts.model_validate(fields)


def _secrets(given: Iterable[str] | Mapping[str, str]) -> dict[str, str] | None:
    if isinstance(given, Mapping):
        by_variable = dict(cast("Mapping[str, str]", given))  # As it is declared.
    else:
        by_variable = {name: name for name in _texts("secrets", given) or ()}
    for name in (each for pair in by_variable.items() for each in pair):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
            raise InvalidJobError(
                f"secrets: {name!r} is no name of a variable or secret; use up to 128 letters, "
                "digits and _, beginning with no digit"
            )
    return by_variable or None


def _backoff(given: float | tuple[float, float] | None) -> Backoff | None:
    if given is None:
        return None
    if isinstance(given, int | float):
        return Backoff(first_s=given)
    if len(given) != 2:
        raise InvalidJobError(f"backoff is seconds, or (first, longest), not {given!r}")
    return Backoff(first_s=given[0], max_s=given[1])


def _python(given: object) -> str | None:
    if given is None:
        return None
    match = re.fullmatch(r"(3\.\d+)(?:\.\d+)?", str(given))
    if match is None:
        raise InvalidJobError(f"python={given!r} is no version; write it as python='3.12'")
    return match[1]


def _texts(what: str, given: Iterable[object]) -> tuple[str, ...] | None:
    if isinstance(given, str):
        raise InvalidJobError(f"{what} takes several, as a list: {what}=[{given!r}]")
    items = tuple(given)
    texts = tuple(each for each in items if isinstance(each, str))
    if len(texts) != len(items):
        raise InvalidJobError(f"{what} takes texts only")
    return texts or None
