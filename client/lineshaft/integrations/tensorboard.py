"""Takes what code writes to TensorBoard, and tells it as metrics of the job.

    from lineshaft.integrations.tensorboard import SummaryWriter

has the methods of `torch.utils.tensorboard.SummaryWriter`, and imports neither torch nor
TensorBoard. Numbers, texts, histograms, pictures and sounds are told; graphs, films (which are
tensors there) and the like are left out, and said so once.
"""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from lineshaft import run
from lineshaft_runtime import spool

if TYPE_CHECKING:
    from lineshaft_records.encoding import Layout


BINS: Final = 64
_LAYOUTS: Final[dict[str, "Layout"]] = {"CHW": "CHW", "HWC": "HWC", "HW": "HW"}


def _picture(tag: str, image: object, step: int | None, layout: str) -> None:
    context = spool.current()
    if context.spool is not None:
        # As in `lineshaft.run`: only who tells pictures pays for it.
        from lineshaft import showing  # noqa: PLC0415
        from lineshaft_records.encoding import image_file  # noqa: PLC0415

        showing.keep_media(context, tag, lambda: image_file(image, _LAYOUTS.get(layout)), step)


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

    def add_histogram(
        self,
        tag: str,
        values: object,
        global_step: int | None = None,
        bins: object = "tensorflow",
        *args: object,
        **kwargs: object,
    ) -> None:
        """Record how values are distributed, in 64 bins unless their number is given."""
        del args, kwargs
        run.histogram(tag, values, global_step, bins=bins if isinstance(bins, int) else BINS)

    def add_image(
        self,
        tag: str,
        img_tensor: object,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Keep a picture as an artifact."""
        del walltime
        _picture(tag, img_tensor, global_step, dataformats)

    def add_images(
        self,
        tag: str,
        img_tensor: Iterable[object],
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Keep pictures as artifacts, each with its number behind the tag."""
        del walltime
        for number, each in enumerate(img_tensor):
            _picture(f"{tag}/{number}", each, global_step, dataformats.removeprefix("N"))

    def add_figure(
        self,
        tag: str,
        figure: object,
        global_step: int | None = None,
        *args: object,
        **kwargs: object,
    ) -> None:
        """Keep a figure of Matplotlib, or several, as pictures."""
        del args, kwargs
        several: list[object] = list(figure) if isinstance(figure, list | tuple) else [figure]  # pyright: ignore[reportUnknownArgumentType] - whatever is in it
        for number, each in enumerate(several):
            run.image(tag if len(several) == 1 else f"{tag}/{number}", each, global_step)

    def add_audio(
        self,
        tag: str,
        snd_tensor: object,
        global_step: int | None = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Keep a sound as an artifact."""
        del walltime
        run.audio(tag, snd_tensor, global_step, sample_rate)

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
                text = f"{name} is left out: a run has no place for it"
                writer.write("notice", {"code": "left_out", "text": text})

        return leave_out
