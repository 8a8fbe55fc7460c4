"""YAML files of a record: run.yaml, experiment.yaml, config.yaml; replaced whole, never torn."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

from lineshaft_records import optional
from lineshaft_records.layout import RunFolder

Status = Literal["RUNNING", "FINISHED", "FAILED", "CRASHED"]
STATUSES: Final[tuple[Status, ...]] = ("RUNNING", "FINISHED", "FAILED", "CRASHED")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What run.yaml says, in the order in which it says it."""

    name: str
    experiment: str
    status: Status = "RUNNING"
    started_at: datetime
    finished_at: datetime | None = None
    duration_secs: float | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    group: str | None = None
    rank: int | None = None
    heartbeat_at: datetime | None = None
    vectors: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    """The last value of each metric."""
    language: str = "python"
    env_path: str | None = None

    def ended(self, status: Status, at: datetime) -> "RunInfo":
        """Return what is known once the run is over."""
        seconds = max(0.0, (at - self.started_at).total_seconds())
        return replace(self, status=status, finished_at=at, duration_secs=round(seconds, 3))


def read_info(folder: RunFolder) -> RunInfo:
    """Read run.yaml; a run whose file is missing or broken is shown as crashed."""
    try:
        said = read_yaml(folder.info)
        return _info(said, folder)
    except (OSError, ValueError):
        return RunInfo(
            name=folder.name,
            experiment=folder.experiment,
            status="CRASHED",
            started_at=_made_at(folder.path),
        )


def _info(said: Mapping[str, object], folder: RunFolder) -> RunInfo:
    status = str(said.get("status", "")).upper()
    started = read_time(said.get("started_at"))
    if status not in STATUSES or started is None:
        raise ValueError("it does not say when it began, or where it stands")
    # The seed's first versions had one table of last values, its later ones have two.
    last: dict[str, float | str] = {}
    for key in ("metrics", "scalars", "vectors"):
        part = said.get(key)
        if isinstance(part, dict):
            for name, value in cast("dict[object, object]", part).items():
                is_number = isinstance(value, int | float)
                last[str(name)] = float(cast("float", value)) if is_number else str(value)
    tags, rank, seconds = said.get("tags"), said.get("rank"), said.get("duration_secs")
    return RunInfo(
        name=str(said.get("name") or folder.name),
        experiment=str(said.get("experiment") or folder.experiment),
        status=status,
        started_at=started,
        finished_at=read_time(said.get("finished_at")),
        duration_secs=float(seconds) if isinstance(seconds, int | float) else None,
        description=_text(said.get("description")),
        tags=tuple(map(str, cast("list[object]", tags))) if isinstance(tags, list) else (),
        group=_text(said.get("group")),
        rank=rank if isinstance(rank, int) else None,
        heartbeat_at=read_time(said.get("heartbeat_at")),
        vectors=last,
        language=str(said.get("language") or "python"),
        env_path=_text(said.get("env_path")),
    )


def write_info(folder: RunFolder, info: RunInfo) -> None:
    """Replace run.yaml."""
    said: dict[str, object] = {
        "name": info.name,
        "experiment": info.experiment,
        "status": info.status,
        "started_at": spell_time(info.started_at),
        "finished_at": spell_time(info.finished_at),
        "duration_secs": info.duration_secs,
        "description": info.description,
        "tags": list(info.tags),
        "group": info.group,
        "rank": info.rank,
        "heartbeat_at": spell_time(info.heartbeat_at),
        "scalars": {},
        "vectors": dict(info.vectors),
        "language": info.language,
        "env_path": info.env_path,
    }
    write_yaml(folder.info, said)


def changed(info: RunInfo, changes: Mapping[str, Any]) -> RunInfo:
    """Return what run.yaml says after people changed name, description or tags."""
    known = {key: changes[key] for key in ("name", "description", "tags") if key in changes}
    if "tags" in known:
        known["tags"] = tuple(known["tags"])
    return replace(info, **known)


def make_experiment(
    path: Path, *, display_name: str | None = None, project: str | None = None
) -> None:
    """Make an experiment's folder, and its experiment.yaml unless there is one."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / "experiment.yaml"
    if not file.exists():
        said: dict[str, object] = {"display_name": display_name, "description": None}
        said |= {"tags": [], "project": project}
        write_yaml(file, said)


def change_experiment(path: Path, changes: Mapping[str, object]) -> None:
    """Change what experiment.yaml says; what nobody named stays, also what is not ours.

    Raises:
        OSError: It cannot be written.
    """
    before: dict[str, object] = {}
    # One that cannot be read is replaced, as config.yaml is.
    with contextlib.suppress(OSError, ValueError):
        before = read_yaml(path / "experiment.yaml")
    write_yaml(path / "experiment.yaml", {**before, **changes})


def merge_config(folder: RunFolder, params: Mapping[str, object]) -> None:
    """Add parameters to config.yaml; of two with one name the later wins."""
    before: dict[str, object] = {}
    # What cannot be read is replaced: the parameters of now are worth more.
    with contextlib.suppress(OSError, ValueError):
        before = read_yaml(folder.config)
    write_yaml(folder.config, before | {str(k): plain(v) for k, v in params.items()})


def read_yaml(path: Path) -> dict[str, object]:
    """Read a file that holds a mapping; an empty one holds none.

    Raises:
        OSError: There is none, or it cannot be read.
        ValueError: It holds something else.
    """
    yaml = optional.yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        said: object = yaml.load(path.read_text(), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise ValueError(f"{path} holds no mapping")  # noqa: TRY004 - one way to be damaged
    return {str(key): value for key, value in cast("dict[object, object]", said).items()}


def write_yaml(path: Path, said: Mapping[str, object]) -> None:
    """Replace a file by what is to be said, so that no reader ever sees half of it."""
    yaml = optional.yaml()
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    def dumped(what: object) -> bytes:
        text: str = yaml.dump(what, Dumper=dumper, sort_keys=False, allow_unicode=True)
        return text.encode()

    try:
        content = dumped(dict(said))
    except UnicodeEncodeError:
        content = dumped(_readable(said))
    replace_file(path, content)


def readable(text: str) -> str:
    """Return a text that UTF-8 can hold: names of files and variables may be any bytes."""
    return _SURROGATE.sub("\ufffd", text)


def _readable(value: object) -> object:
    match value:
        case str():
            return readable(value)
        case Mapping():
            items = cast("Mapping[object, object]", value).items()
            return {_readable(key): _readable(each) for key, each in items}
        case list():
            return [_readable(each) for each in cast("list[object]", value)]
        case _:
            return value


def replace_file(path: Path, content: bytes) -> None:
    """Write beside it, sync, and rename."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def plain(value: object) -> object:
    """Return what YAML can hold and give back alike: nested values stay nested."""
    if value is None or isinstance(value, bool | int | float | str):
        # Subclasses, as NumPy's float64 and enums of strings, are no YAML of the safe kind.
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        return None
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {key if isinstance(key, str | int) else str(key): plain(each) for key, each in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in cast("list[object]", value)]
    for name in ("item", "tolist"):
        convert: Any = getattr(value, name, None)  # array scalars, arrays and tensors
        if callable(convert):
            try:
                return plain(convert())
            except (ValueError, RuntimeError):
                continue
    return str(value)


def spell_time(at: datetime | None) -> str | None:
    """Write a time as RFC 3339 in UTC, in microseconds."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_time(said: object) -> datetime | None:
    """Read a time; YAML may have made it one already. None if it is none."""
    if isinstance(said, datetime):
        return said if said.tzinfo else said.replace(tzinfo=UTC)
    if not isinstance(said, str):
        return None
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _made_at(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)
