"""Takes what code writes to TensorBoard, and tells it as metrics of the job.

    from lineshaft.integrations.tensorboard import SummaryWriter

has the methods of `torch.utils.tensorboard.SummaryWriter`, and imports neither torch nor
TensorBoard. Numbers and texts are told; images, graphs and the like are left out, and said so once.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from lineshaft import run
from lineshaft_runtime import spool


class SummaryWriter:
    """Stands in for TensorBoard's writer; writes no files.

    Args:
        log_dir: Ignored, as all other arguments: events go to the job's run.
    """

    def __init__(self, log_dir: object = None, *args: object, **kwargs: object) -> None:
        del args, kwargs
        self.log_dir = "" if log_dir is None else str(log_dir)
        self._left_out: set[str] = set()

    def add_scalar(
        self,
        tag: str,
        scalar_value: object,
        global_step: int | None = None,
        *args: object,
        **kwargs: object,
    ) -> None:
        """Record a number; the time is always now."""
        del args, kwargs
        run.log({tag: scalar_value}, step=global_step)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, object],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Record several numbers, each as `main_tag/tag`."""
        del walltime
        named = {f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}
        run.log(named, step=global_step)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Record a text."""
        del walltime
        run.log({tag: text_string}, step=global_step)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, object],
        metric_dict: Mapping[str, object],
        *args: object,
        **kwargs: object,
    ) -> None:
        """Record parameters as `hparam/name`, and numbers."""
        del args, kwargs
        named = {f"hparam/{name}": value for name, value in hparam_dict.items()}
        run.log({**named, **metric_dict})

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is open here."""

    def get_logdir(self) -> str:
        """Return what `log_dir` was."""
        return self.log_dir

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("add_"):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

        def leave_out(*args: object, **kwargs: object) -> None:
            del args, kwargs
            if name in self._left_out:
                return
            self._left_out.add(name)
            writer = spool.current().spool
            if writer is not None:
                text = f"{name} is left out: only numbers and texts are told"
                writer.write("notice", {"code": "left_out", "text": text})

        return leave_out
