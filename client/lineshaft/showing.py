"""What `lineshaft.run` tells besides numbers: distributions, pictures, sounds and films.

Imported by who tells such a thing, not by every job. As there, nothing raises: what cannot be told
becomes a notice of the job.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from lineshaft_records.histograms import BINS, histogram_body
from lineshaft_records.media import MEDIA, media_name
from lineshaft_runtime import kept
from lineshaft_runtime.spool import JobContext, SpoolWriter


def tell_histogram(
    writer: SpoolWriter,
    name: str,
    values: object = None,
    *,
    step: int | None = None,
    bins: int = BINS,
    edges: Iterable[float] | None = None,
    counts: Iterable[int] | None = None,
) -> None:
    """Tell how values are distributed; see `histogram_body`."""
    try:
        body = histogram_body(name, values, step=step, bins=bins, edges=edges, counts=counts)
    except Exception as error:  # noqa: BLE001 - values are of any library, on any device
        _say(writer, f"histogram {name} is left out: {error}")
        return
    # Metrics without a number, so that peers who know no histograms have nothing to refuse.
    writer.write("metrics", {"metrics": {}, "step": step, "histogram": body})


def keep_media(
    context: JobContext, name: str, encode: Callable[[], tuple[bytes, str]], step: int | None
) -> None:
    """Keep a file as an artifact below `media/`, with its step.

    Args:
        context: The attempt.
        name: What it is of.
        encode: Makes its bytes and the extension of its file.
        step: Where the job is.
    """
    writer = context.spool
    if writer is None:
        return
    try:
        data, extension = encode()
        file_name = media_name(name, step, extension)
        folder = tempfile.mkdtemp(prefix="lineshaft-")
        try:
            path = Path(folder, file_name)
            path.write_bytes(data)
            where, size_bytes, problem = kept.keep(str(path), context.kept_folder)
        finally:
            if context.kept_folder is not None:  # Else nobody copied it.
                shutil.rmtree(folder, ignore_errors=True)
    except Exception as error:  # noqa: BLE001 - as above, and a figure runs code of its user
        _say(writer, f"{name} is left out: {error}")
        return
    if problem is not None:
        _say(writer, f"{name} is left out: {problem}")
        return
    body = {"path": file_name, "name": f"{MEDIA}/{file_name}", "tag": name, "step": step}
    writer.write("artifact", body | {"kept": where, "size_bytes": size_bytes})


def _say(writer: SpoolWriter, text: str) -> None:
    writer.write("notice", {"code": "left_out", "text": text})
