"""A request for a training, made an ordinary Python job that runs the operator's trainer."""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.finetune.following import CONFIG_FILE
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.gateway.payloads import environment_of, stored
from lineshaft_coordinator.server.admission import write_private
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import Name
from lineshaft_protocol.jobs import JobSpec, Line, Timeouts
from lineshaft_protocol.resources import Resources
from lineshaft_runtime.bundles import FILES_MAX, PipelineBundle, encode_bundle
from lineshaft_runtime.packing import pack_bytes
from lineshaft_runtime.told_params import told_params

LINE_ID: Final = "training-server"
"""The line in which trainings wait for one another."""
DATASET_FILE: Final = "train_dataset.jsonl"
_LEFT_OUT: Final = ("__pycache__", "node_modules", "venv")


class NoTrainerError(LineshaftError):
    """There is nothing that ``execute`` could run."""

    def __init__(self) -> None:
        super().__init__(
            "this coordinator has no trainer: set trainer and entry_point in section [training] of "
            "its lineshaft.toml, then restart it"
        )


class BrokenTrainerError(LineshaftError):
    """The trainer cannot be read as the settings describe it."""

    def __init__(self, trainer: Path, reason: str) -> None:
        super().__init__(f"the trainer in {trainer} cannot be run: {reason}")
        self.trainer, self.reason = trainer, reason


class Execute(BaseModel):
    """What is posted to ``/api/training/execute``."""

    model_config = ConfigDict(extra="ignore")

    config: dict[str, JsonValue] = Field(min_length=1)
    execution_id: Name
    user_id: str = Field(min_length=1, max_length=200)
    name: str | None = Field(default=None, max_length=200)
    dataset_path: str | None = Field(default=None, max_length=4096)
    """A file of the worker that the trainer is to read."""
    dataset_content: str | list[JsonValue] | None = None
    """JSON Lines, or the rows themselves; the trainer finds them as ``train_dataset.jsonl``."""

    @property
    def dataset(self) -> str | None:
        """The dataset as JSON Lines; None if it does not come with the request."""
        if isinstance(self.dataset_content, list):
            return "".join(f"{json.dumps(row)}\n" for row in self.dataset_content)
        return self.dataset_content


class Trainer:
    """Makes jobs of requests.

    Args:
        settings: Which trainer, and what it gets.
        blobs: Where long payloads are put.
        data: The coordinator's folder, for the key that tokens of jobs are made with.
    """

    def __init__(self, settings: TrainingSettings, blobs: BlobStore, data: Path) -> None:
        self._settings, self._blobs = settings, blobs
        self._key_file = data / "training.key"
        self._key: bytes | None = None
        self.url = ""
        """Where trainers of our workers reach us; set once the port is known."""

    async def job(self, execute: Execute) -> JobSpec:
        """Make a job of a request, the same for the same request.

        Raises:
            NoTrainerError: None is set.
            BrokenTrainerError: Its folder cannot be read, or lacks the entry point.
            BundleError: It is too large.
            BlobError: It cannot be stored.
            RequirementsError: Its requirements cannot be read.
        """
        files = await asyncio.to_thread(self._files)
        config = {"user_id": execute.user_id, "name": execute.name, "config": execute.config}
        files[CONFIG_FILE] = json.dumps(config, sort_keys=True).encode()
        params: dict[str, object] = {"config": execute.config}
        if execute.dataset is not None:
            files[DATASET_FILE] = execute.dataset.encode()
            params["dataset_path"] = DATASET_FILE
        elif execute.dataset_path is not None:
            params["dataset_path"] = execute.dataset_path
        bundle = PipelineBundle(
            files=tuple(sorted(files.items())),
            requirements=(),
            entry_point=self._settings.entry_point,
            input_data=None,
            params=pack_bytes(params),
        )
        data = await asyncio.to_thread(encode_bundle, bundle)
        wanted = files.get(self._settings.requirements, b"").decode()
        return JobSpec(
            job_id=execute.execution_id,
            kind="pipeline",
            payload=await stored(self._blobs, data),
            name=execute.name or execute.execution_id,
            params=told_params(params),
            resources=Resources(gpus=self._settings.gpus) if self._settings.gpus else None,
            timeouts=Timeouts(
                silence_s=60 * self._settings.timeout_minutes,
                lost_after_s=60 * self._settings.lost_after_minutes,
            ),
            line=Line(name=LINE_ID, at_most=self._settings.at_once),
            variables=self._variables(execute),
            environment=await environment_of(self._blobs, wanted),
        )

    def is_token_of(self, token: str | None, job_id: str) -> bool:
        """Whether this is the JOB_TOKEN of a training: it opens what concerns that one."""
        if token is None:
            return False
        # As bytes: what somebody sends need not be ASCII.
        return hmac.compare_digest(token.encode(), self.token_of(job_id).encode())

    def token_of(self, job_id: str) -> str:
        """The token of a training."""
        return hmac.new(self._key_bytes(), job_id.encode(), hashlib.sha256).hexdigest()

    def _variables(self, execute: Execute) -> dict[str, str]:
        return {
            "JOB_ID": execute.execution_id,
            "JOB_USER_ID": execute.user_id,
            "JOB_TOKEN": self.token_of(execute.execution_id),
            "METRICS_API_URL": self._settings.metrics_api_url or self.url,
            "PYTHONUNBUFFERED": "1",
        }

    def _key_bytes(self) -> bytes:
        if self._key is None:
            if not self._key_file.exists():
                write_private(self._key_file, secrets.token_hex(32))
            self._key = self._key_file.read_bytes()
        return self._key

    def _files(self) -> dict[str, bytes]:
        folder = self._settings.trainer
        if folder is None:
            raise NoTrainerError
        try:
            found = {path: (folder / path).read_bytes() for path in _names(folder)}
        except OSError as error:
            raise BrokenTrainerError(folder, str(error)) from error
        entry_file = self._settings.entry_point.partition(":")[0]
        if entry_file.endswith(".py") and entry_file not in found:
            raise BrokenTrainerError(folder, f"it has no file {entry_file}")
        return found


def _names(folder: Path) -> Iterator[str]:
    """Files of a trainer, by relative names; hidden ones and caches are left out."""
    count = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_left_out = any(part.startswith(".") or part in _LEFT_OUT for part in name.parts)
        if is_left_out or not path.is_file():
            continue
        count += 1
        if count > FILES_MAX:
            raise OSError(f"it has more than {FILES_MAX} files")
        yield name.as_posix()


def read_execute(body: bytes) -> Execute:
    """Read what was posted.

    Raises:
        ValueError: It is no such request.
    """
    return Execute.model_validate(cast("object", json.loads(body)))
