"""How the training server is set up: ``[training]`` of ``lineshaft.toml``, and its environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

_VARIABLES: Final[Mapping[str, str]] = {
    "JOB_TIMEOUT_MINUTES": "timeout_minutes",
    "ALERT_API_URL": "alert_url",
    "METRICS_API_URL": "metrics_api_url",
    "PROGRESS_FILENAME": "progress_filename",
    "TRAINER_STATE_FILENAME": "trainer_state_filename",
    "TRAINING_LOG_FILENAME": "log_filename",
    "CONFIG_DIR_NAME": "configs",
    "LOGS_DIR_NAME": "logs",
}
"""What seed 001 reads from the environment, and which setting each is; it goes before the file."""
_ORIGINS: Final = "CORS_ALLOWED_ORIGINS"


class TrainingSettings(BaseModel):
    """Everything an operator may set of the training server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: Path | None = None
    """Folder of the trainer that ``execute`` runs; None: there is none, and it is refused."""
    entry_point: str = "train.py:main"
    """The file of that folder, and the function if there is one."""
    requirements: str = "requirements.txt"
    """File of that folder with the requirements of its environment; there need be none."""
    gpus: int = Field(default=0, ge=0, le=1024)
    """How many GPUs a training gets."""
    folder: Path | None = None
    """Where the files of trainings lie; None: ``training`` in the data folder."""
    at_once: int = Field(default=1, ge=1, le=1000)
    """How many trainings may be under way at a time; the others wait, first in, first out."""
    pause_s: float = Field(default=30.0, gt=0)
    """How long a trainer may take to save and end when it is paused; then it goes on."""
    timeout_minutes: float = Field(default=60.0, gt=0)
    """A training that says nothing for so long fails."""
    lost_after_minutes: float = Field(default=20.0, gt=0)
    """After how long a training is given up whose worker has vanished. It goes on by itself while
    the coordinator is away for two thirds of that; twenty are enough for ten minutes."""
    execute_per_minute: int = Field(default=10, ge=0)
    requests_per_minute: int = Field(default=30, ge=0)
    files_per_minute: int = Field(default=60, ge=0)
    """The most requests of one address for new trainings, for files, and others; 0: no limit."""
    origins: tuple[str, ...] = ("http://localhost:3000",)
    """Web pages, as ``http://host:port``, that may use the training server."""
    without_token: bool = False
    """Whether clients on this machine need no token; others always do."""
    alert_url: str | None = None
    """Where alerts are posted; None: nowhere."""
    metrics_api_url: str | None = None
    """METRICS_API_URL of trainers; None: our own address."""
    progress_filename: str = Field(default="progress.json", pattern=r"^[\w.-]+$")
    trainer_state_filename: str = Field(default="trainer_state.json", pattern=r"^[\w.-]+$")
    """What trainer libraries write into checkpoints; losses are read from it."""
    unpack_checkpoints: bool = True
    """Whether checkpoints lie as folders beside the other files of a training."""
    log_filename: str = Field(default="training.log", pattern=r"^[\w.-]+$")
    """Its name in the archive of logs."""
    configs: str = Field(default="configs", pattern=r"^[\w.-]+$")
    logs: str = Field(default="logs", pattern=r"^[\w.-]+$")
    """Names of the folders beneath ``folder``."""


def training_settings(
    section: Mapping[str, object], environ: Mapping[str, str]
) -> TrainingSettings:
    """Put a section of the settings file and the environment together.

    Raises:
        ValueError: One of them is wrong; the text says which.
    """
    chosen = dict(section)
    for variable, name in _VARIABLES.items():
        if environ.get(variable):
            chosen[name] = environ[variable]
    if environ.get(_ORIGINS):
        chosen["origins"] = [each.strip() for each in environ[_ORIGINS].split(",") if each.strip()]
    return TrainingSettings.model_validate(chosen)
