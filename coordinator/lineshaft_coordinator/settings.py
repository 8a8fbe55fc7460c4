"""How a coordinator is set up: flag, environment, ``lineshaft.toml``, default, in this order."""

from pathlib import Path

from pydantic import BaseModel, Field

from lineshaft_coordinator.core.settings import CoreSettings

DEFAULT_PORT = 7433


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
    keep_finished_s: float = Field(default=30 * 24 * 3600.0, gt=0)
    """How long finished jobs, their events and results are kept, in seconds."""
    core: CoreSettings = CoreSettings()
