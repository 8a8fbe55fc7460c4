"""Sending archives: whole, in part, or just what they are."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lineshaft_coordinator.finetune.archives import Archive, Content, Entry, folder_entries
from lineshaft_protocol.kept_files import KeptFile

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


def archive_response(request: Request, archive: Archive, filename: str) -> Response:
    """Answer with an archive, or with the part that is asked for."""
    size, tag = archive.size_bytes, f'"{archive.sha256}"'
    digest = base64.b64encode(bytes.fromhex(archive.sha256)).decode()
    headers = {
        "Content-Disposition": f"attachment; filename={filename}",
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "X-Checksum-Sha256": archive.sha256,
        "Repr-Digest": f"sha-256=:{digest}:",
    }
    start, end, status = 0, size, 200
    wanted = request.headers.get("range")
    if wanted is not None and request.headers.get("if-range", tag) == tag:
        span = _span(wanted, size)
        if span is None:
            headers["Content-Range"] = f"bytes */{size}"
            return Response(status_code=416, headers=headers)
        if span != (0, size):
            (start, end), status = span, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/zip")
    return StreamingResponse(
        archive.pieces(start, end), status, headers, media_type="application/zip"
    )


def kept_entries(
    files: Sequence[KeptFile], folder: str, paths: Sequence[Path | None]
) -> list[Entry]:
    """Return kept files as entries; what was a folder is one again. Blocks on the disk.

    Args:
        files: Checkpoints or artifacts.
        folder: Name of the folder in the archive.
        paths: Where the content of each lies; None: it is gone.

    Raises:
        OSError: One cannot be read.
        tarfile.TarError: A folder is damaged.
    """
    entries: list[Entry] = []
    for file, path in zip(files, paths, strict=True):
        if path is None:
            raise FileNotFoundError(f"the content of {file.name} is gone")
        if file.is_folder:
            entries += folder_entries(path, folder, file.at)
        else:
            name = f"{folder}/{file.name}"
            entries.append(Entry(name, Content(path.stat().st_size, path=path), file.at))
    return entries


def artifacts_of(files: Sequence[JsonValue]) -> list[KeptFile]:
    """The artifacts among a job's kept files: of those of one name the last."""
    found: dict[str, KeptFile] = {}
    for each in files:
        file = KeptFile.model_validate(each)
        if file.kind == "artifact" and file.blob is not None:
            found[file.name] = file
    return list(found.values())


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Read one range of bytes; all of it for what we do not serve; None: it cannot be served."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or wanted.strip() == "bytes=-":
        return 0, size
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else None
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None
