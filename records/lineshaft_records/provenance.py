"""What a run was made of: command, machine, commit; which rank of which group it is."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lineshaft_records.documents import write_yaml
from lineshaft_records.layout import RunFolder

RANKS: Final = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
GROUPS: Final = ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
GIT_S: Final = 2.0


def rank_and_group(environ: Mapping[str, str]) -> tuple[int | None, str | None]:
    """Return which rank of which group this process is, by what launchers say."""
    ranks = (environ.get(name, "") for name in RANKS)
    rank = next((int(text) for text in ranks if text.isdecimal()), None)
    group = next((environ[name] for name in GROUPS if environ.get(name)), None)
    return rank, group


def write_provenance(folder: RunFolder) -> None:
    """Write provenance.yaml; what cannot be found out is null."""
    where = Path.cwd()
    commit = _git(where, "rev-parse", "HEAD")
    said: dict[str, object] = {
        "git_commit": commit,
        "git_branch": _git(where, "rev-parse", "--abbrev-ref", "HEAD") if commit else None,
        "git_dirty": bool(_git(where, "status", "--porcelain", "-uno")) if commit else None,
        "command": list(sys.orig_argv),
        "hostname": socket.gethostname(),
        "scheduler": {name: os.environ[name] for name in GROUPS if os.environ.get(name)},
    }
    write_yaml(folder.path / "provenance.yaml", said)


def _git(where: Path, *words: str) -> str | None:
    try:
        run = subprocess.run(  # noqa: S603 - words of ours
            ["git", *words],  # noqa: S607 - the one that the user would call
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
            timeout=GIT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()
