"""Tell consumers of a model about its new checkpoints, and hear of them, over Redis.

    from lineshaft import checkpoints

    with checkpoints.Publisher("models", model_name="lstm") as publisher:
        for step in range(steps):
            ...
            with publisher.writing("model.pt", step=step, metadata={"loss": loss}) as path:
                torch.save(model.state_dict(), path)

    with checkpoints.Subscriber(model_name="lstm") as subscriber:
        for notice in subscriber.notices():
            model.load_state_dict(torch.load(notice.model_path))

Works in any script, with or without Lineshaft. Needs the package redis: ``lineshaft[redis]``.
Jobs of a coordinator that publishes notices need none of this: `lineshaft.run.checkpoint` is
enough.
"""

from lineshaft.checkpoint_publisher import Publisher, VersionError
from lineshaft.checkpoint_subscriber import ReloadSettings, Statistics, Subscriber
from lineshaft_runtime.checkpoint_notices import (
    CheckpointNotice,
    NoticeError,
    NoticeSettings,
    RedisPackageError,
)

__all__ = [
    "CheckpointNotice",
    "NoticeError",
    "NoticeSettings",
    "Publisher",
    "RedisPackageError",
    "ReloadSettings",
    "Statistics",
    "Subscriber",
    "VersionError",
]
