"""What a run was made of: command, machine, commit and what differs from it."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lineshaft_records.documents import write_yaml
from lineshaft_records.launches import JOBS
from lineshaft_records.layout import RunFolder

GIT_S: Final = 2.0
DIFF_BYTES_MAX: Final = 256 * 1024
"""Longer differences are cut, and say so: they are source, not data."""
SCHEDULED: Final = (*JOBS, "SLURM_ARRAY_TASK_ID", "SLURM_PROCID")


def write_provenance(folder: RunFolder, environ: Mapping[str, str], *, diff: bool = False) -> None:
    """Write provenance.yaml, as seed 004 lays it out; what cannot be found out is left out.

    Args:
        folder: The run.
        environ: Where launchers say which job this is.
        diff: Whether to keep how the files differ from the commit, for all who may read records.
    """
    where = Path.cwd()
    said: dict[str, object] = {}
    if commit := _git(where, "rev-parse", "HEAD"):
        said["git"] = _commit(where, commit, diff=diff)
    said |= {"command": shlex.join(sys.orig_argv), "hostname": socket.gethostname()}
    if scheduled := {name: environ[name] for name in SCHEDULED if environ.get(name)}:
        said["scheduler"] = scheduled
    write_yaml(folder.provenance, said)


def _commit(where: Path, commit: str, *, diff: bool) -> dict[str, object]:
    said: dict[str, object] = {
        "commit": commit,
        "branch": _git(where, "rev-parse", "--abbrev-ref", "HEAD"),
    }
    # A large repository takes longer than we wait: then nobody knows.
    if (differing := _git(where, "status", "--porcelain", "-uno")) is not None:
        said["dirty"] = bool(differing)
    text = (
        _git(where, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")
        if diff
        else None
    )
    if text:
        said["diff"] = text
    return said


def _git(where: Path, *words: str) -> str | None:
    """Return what git says, cut at some length; None if it cannot be asked, or takes too long."""
    try:
        # A file, so that a diff of gigabytes is never in memory, and never makes git wait.
        with tempfile.TemporaryFile() as said:
            subprocess.run(  # noqa: S603 - words of ours
                ["git", *words],  # noqa: S607 - the one that the user would call
                cwd=where,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=GIT_S,
            )
            size = said.tell()
            said.seek(0)
            text = said.read(DIFF_BYTES_MAX).decode(errors="replace").strip()
    except (OSError, subprocess.SubprocessError):
        return None
    if size > DIFF_BYTES_MAX:
        text += f"\n[cut: the first {DIFF_BYTES_MAX} of {size} bytes]"
    return text
