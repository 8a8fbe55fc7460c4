"""How a coordinator is set up: flag, environment, ``lineshaft.toml``, default, in this order."""

import math
from pathlib import Path

from pydantic import BaseModel, Field

from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.notices.settings import AnnouncerSettings

DEFAULT_PORT = 7433
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_duration(text: str) -> float:
    """Seconds from a number with a unit: ``90s``, ``45m``, ``12h``, ``30d``, ``2w``.

    Raises:
        ValueError: It is none, or not above zero.
    """
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * _UNITS_S[unit]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} is no time; write a number and a unit: 90s, 45m, 12h, 30d, 2w")
    return seconds


def read_settings_file(path: Path, *, must_exist: bool) -> dict[str, dict[str, object]]:
    """Read the sections of a settings file.

    Args:
        path: Where it lies.
        must_exist: Whether it is an error if there is none.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML, or has something outside of a section.
    """
    if not must_exist and not path.exists():
        return {}
    import tomllib  # noqa: PLC0415 - most coordinators have no such file

    sections: dict[str, dict[str, object]] = {}
    for name, value in tomllib.loads(path.read_text()).items():
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - the file is wrong, not our call
                f"{name} stands outside of a section, as [training]"
            )
        sections[name] = value
    return sections


class CoordinatorSettings(BaseModel):
    """Everything an operator may set."""

    data: Path
    """Folder of the journal, blobs and tokens; one coordinator at a time."""
    home: Path
    """Folder where programs on this machine look for the URL and the token."""
    host: str = "127.0.0.1"
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """0 takes any free port."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    port_file: Path | None = None
    """Where to write the port once it is bound."""
    blob_bytes_max: int = 64 * 1024**3
    blob_total_bytes_max: int | None = None
    models_bytes_max: int | None = Field(default=None, ge=0)
    """Length of all versions of all models that are uploaded; ``None``: what the disk has."""
    blob_store: str | None = None
    """URL of the object store for large blobs; ``None`` for files in the data folder."""
    hands_over_files: bool = True
    """Whether peers on this machine hand blobs over as files; else all go over connections."""
    keep_finished_s: float = Field(default=30 * 24 * 3600.0, gt=0)
    """How long finished jobs, their events and results are kept, in seconds."""
    training: TrainingSettings = TrainingSettings()
    """The training server."""
    notices: AnnouncerSettings | None = None
    """How checkpoints are announced on Redis; ``None`` if they are not."""
    core: CoreSettings = CoreSettings()
