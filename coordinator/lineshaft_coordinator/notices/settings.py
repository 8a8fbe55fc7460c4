"""How an operator sets notices up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field

from lineshaft_runtime.checkpoint_notices import NoticeSettings
from lineshaft_runtime.version_shelf import DEFAULT_KEPT


class AnnouncerSettings(BaseModel):
    """Where checkpoints are announced, and where they lie for those that hear of it."""

    redis: NoticeSettings
    folder: Path | None = None
    """Gets copies of announced checkpoints; ``None`` for links below the data folder."""
    kept: int = Field(default=DEFAULT_KEPT, ge=1, le=1000)
    """How many versions of a model lie there."""

    @classmethod
    def chosen(
        cls,
        environ: Mapping[str, str],
        *,
        url: str | None,
        instance_id: str | None,
        folder: Path | None,
        kept: int,
    ) -> Self | None:
        """Flags before the environment; ``None`` if no URL is set, or notices are switched off."""
        read = NoticeSettings.from_environment(environ)
        wanted = url or environ.get("REDIS_URL")
        if not wanted or not read.is_enabled:
            return None
        redis = NoticeSettings(wanted, instance_id or read.instance_id)
        return cls(redis=redis, folder=None if folder is None else folder.absolute(), kept=kept)
