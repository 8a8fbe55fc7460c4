"""Copies of files that a job wants kept, made while it runs."""

import os
import shutil
import uuid
from pathlib import Path


def keep(path: str, folder: str | None) -> tuple[str, int, str | None]:
    """Copy a file or a folder, as it is now, to where the daemon will look.

    Args:
        path: What the job made.
        folder: Where copies go; None if nobody collects them, then nothing is copied.

    Returns:
        Where it lies now, how many bytes it has, and what went wrong (None if nothing).
    """
    source = Path(path)
    try:
        if folder is None:
            return str(source.absolute()), _size(source), None
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        target = Path(folder, uuid.uuid4().hex[:12], source.name or "folder")
        target.parent.mkdir(mode=0o700)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_copy)
        else:
            _copy(str(source), str(target))
        return str(target), _size(target), None
    except (OSError, ValueError, shutil.Error) as error:
        return path, 0, str(error)


def _copy(source: str, target: str) -> str:
    # copy_file_range shares the blocks where the file system can, and stays in the kernel else.
    with Path(source).open("rb") as reading, Path(target).open("xb") as writing:
        left = os.fstat(reading.fileno()).st_size
        try:
            while left > 0:
                done = os.copy_file_range(reading.fileno(), writing.fileno(), left)
                if done == 0:
                    break
                left -= done
        except OSError:  # For instance from another file system, on older kernels.
            shutil.copyfileobj(reading, writing)
    return target


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size
