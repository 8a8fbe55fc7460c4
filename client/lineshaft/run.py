"""Report from inside a job: progress, metrics, checkpoints, artifacts.

    from lineshaft import run

    run.progress(step, total, phase="train")
    run.log({"loss": loss}, step=step)
    run.checkpoint("model.pt", step=step)

Outside a job everything works and does nothing, so that the same script runs on a laptop. Set
``LINESHAFT_SPOOL`` to a file name to collect the events there. No function raises, waits for a
network, or costs more than some microseconds (files that are kept are copied).
"""

import os

from lineshaft_runtime import spool as _spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

    params: Mapping[str, object]
    """Parameters of this job by name; empty outside a job."""

__all__ = [
    "Checkpoint",
    "artifact",
    "audio",
    "checkpoint",
    "histogram",
    "image",
    "input_data",
    "latest_checkpoint",
    "log",
    "params",  # pyright: ignore[reportUnsupportedDunderAll] - made by __getattr__
    "paused",
    "progress",
    "result",
    "should_pause",
    "video",
]


def progress(step: int, total: int | None = None, phase: str = "") -> None:
    """Say how far the job is.

    Args:
        step: What is done, in units of the job's own.
        total: What there is to do, or None if it is not known.
        phase: What the job is doing, as "train".
    """
    writer = _spool.current().spool
    if writer is not None:
        writer.write("progress", {"step": step, "total": total, "phase": phase})


def log(metrics: "Mapping[str, object]", step: int | None = None) -> None:
    """Record numbers. NaN and infinities are kept; array scalars and tensors become numbers."""
    writer = _spool.current().spool
    if writer is not None:
        writer.write("metrics", {"metrics": metrics, "step": step})


def histogram(
    name: str,
    values: object = None,
    step: int | None = None,
    *,
    bins: int = 64,
    edges: "Iterable[float] | None" = None,
    counts: "Iterable[int] | None" = None,
) -> None:
    """Record how numbers are distributed.

    Args:
        name: What of.
        values: Numbers, an array or a tensor; NaN and infinities are not counted.
        step: Where the job is.
        bins: How many of equal width they are counted into, 1 to 512.
        edges: Where bins begin, and where the last one ends, instead of values.
        counts: How many are in each, with `edges`.
    """
    writer = _spool.current().spool
    if writer is not None:
        # Only who tells such a thing pays for the import, here and below.
        from lineshaft import showing  # noqa: PLC0415

        showing.tell_histogram(
            writer, name, values, step=step, bins=bins, edges=edges, counts=counts
        )


def image(name: str, image: object, step: int | None = None) -> None:
    """Keep a picture as an artifact: bytes of one, a path, a figure, or an array or tensor."""
    context = _spool.current()
    if context.spool is not None:
        from lineshaft import showing  # noqa: PLC0415
        from lineshaft_records.encoding import image_file  # noqa: PLC0415

        showing.keep_media(context, name, lambda: image_file(image), step)


def audio(name: str, sound: object, step: int | None = None, rate_hz: int = 44100) -> None:
    """Keep a sound as an artifact: bytes of a WAV, or an array or tensor from -1 to 1."""
    context = _spool.current()
    if context.spool is not None:
        from lineshaft import showing  # noqa: PLC0415
        from lineshaft_records.encoding import sound_file  # noqa: PLC0415

        showing.keep_media(context, name, lambda: sound_file(sound, rate_hz), step)


def video(name: str, data: bytes, step: int | None = None, extension: str = "mp4") -> None:
    """Keep a film as an artifact, by the bytes of its file."""
    context = _spool.current()
    if context.spool is not None:
        from lineshaft import showing  # noqa: PLC0415

        showing.keep_media(context, name, lambda: (data, extension), step)


def input_data() -> object:
    """Return the data that the job was submitted with; None if there are none."""
    load = _spool.current().input_data
    return None if load is None else load()


def result(value: object) -> None:
    """Set what the job returns, for a script that is not a function; the last value counts."""
    set_result = _spool.current().set_result
    if set_result is not None:
        set_result(value)


def checkpoint(
    path: "str | os.PathLike[str]",
    step: int | None = None,
    metadata: "Mapping[str, object] | None" = None,
) -> None:
    """Keep a file or folder from which the job can go on, as it is now.

    Args:
        path: What was saved. It is copied, so the job may overwrite it.
        step: How far the job was.
        metadata: What else to remember with it.
    """
    _keep("checkpoint", path, {"step": step, "metadata": dict(metadata or {})})


def artifact(path: "str | os.PathLike[str]", name: str | None = None) -> None:
    """Keep a file or folder that the job made.

    Args:
        path: What was made. It is copied, so the job may overwrite it.
        name: What to call it; its file name if None. What nobody sees in it is spelled: `(U+202E)`.
    """
    _keep("artifact", path, {"name": name or os.path.basename(os.fspath(path))})  # noqa: PTH119 - pathlib is too slow to import


def latest_checkpoint() -> "Checkpoint | None":
    """Return the checkpoint from which this attempt goes on; None if it starts at the beginning.

    It is the last one that was stored in an attempt before: of a job that was paused or preempted,
    that lost its worker, or whose code failed and is tried again. Outside a job it is None.
    """
    resume_file = _spool.current().resume_file
    if resume_file is None or not os.path.exists(resume_file):  # noqa: PTH110 - see artifact
        return None
    from lineshaft_runtime import kept  # noqa: PLC0415 - only who goes on pays for it

    saved = kept.restore(resume_file)
    return Checkpoint(saved.path, saved.step, saved.metadata, saved.attempt)


def should_pause() -> bool:
    """Say whether somebody asked the job to pause: save a checkpoint, and return or exit.

    A job that saved a checkpoint after this was true, and then ends without an error, has paused:
    what it returns is not its result, and it goes on from that checkpoint once it is resumed.
    """
    context = _spool.current()
    is_wanted = context.is_pause_wanted
    context.is_pause_seen = context.is_pause_seen or is_wanted
    return is_wanted


def paused() -> "NoReturn":
    """End the job from anywhere in its code, after `should_pause` and `checkpoint`."""
    raise SystemExit(0)


class Checkpoint:
    """What `checkpoint` saved in an earlier attempt."""

    __slots__ = ("attempt", "metadata", "path", "step")

    def __init__(
        self, path: str, step: int | None, metadata: "Mapping[str, object]", attempt: int
    ) -> None:
        self.path = path
        """The file or folder, under the name it had; the job may change it."""
        self.step = step
        self.metadata = metadata
        self.attempt = attempt
        """In which attempt it was saved."""

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path} step={self.step} of attempt {self.attempt}>"


def _keep(kind: str, path: "str | os.PathLike[str]", body: dict[str, object]) -> None:
    context = _spool.current()
    if context.spool is None:
        return
    # Only who keeps files pays for the import of shutil.
    from lineshaft_runtime import kept  # noqa: PLC0415

    where, size_bytes, problem = kept.keep(os.fspath(path), context.kept_folder)
    body |= {"path": os.fspath(path), "kept": where, "size_bytes": size_bytes}
    if "name" in body:
        body["name"] = kept.spelled(str(body["name"]))
    if problem is not None:
        text = f"{kind} {os.fspath(path)} could not be kept: {problem}"
        context.spool.write("notice", {"code": "not_kept", "text": text})
    else:
        context.spool.write(kind, body)
        if kind == "checkpoint":
            context.note_saved()


def __getattr__(name: str) -> "Mapping[str, object]":
    if name == "params":
        return _spool.current().params
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
