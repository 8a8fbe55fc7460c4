"""Runs of real programs that record themselves, and what they leave."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.e2e.farm import until

from lineshaft_records.documents import read_info
from lineshaft_records.layout import RunFolder

START = "from lineshaft_records import Run\n"


def start(folder: Path, code: str) -> subprocess.Popen[str]:
    """Start a program; its records go to `folder/experiments`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LINESHAFT_")}
    return subprocess.Popen(
        [sys.executable, "-c", START + textwrap.dedent(code)],
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def do(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    program = start(folder, code)
    out, err = program.communicate(timeout=60)
    return subprocess.CompletedProcess(code, program.returncode, out, err)


def until_ended(folder: RunFolder) -> str:
    """Wait until somebody has said how a run ended; returns what."""
    until(
        lambda: folder.info.exists() and not folder.live.exists(), what=f"{folder.path} is closed"
    )
    return read_info(folder).status
