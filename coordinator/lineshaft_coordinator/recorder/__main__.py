"""The recorder process: ``python -m lineshaft_coordinator.recorder``."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lineshaft_records.errors import MissingPartError

EXIT_MISSING = 3
"""A library is not installed: to start it again would not help."""
NICENESS = 5
"""Records may come a little later than what people wait for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until the coordinator hangs up; returns the exit status."""
    flags = argparse.ArgumentParser(prog="python -m lineshaft_coordinator.recorder")
    flags.add_argument("--data", type=Path, required=True)
    flags.add_argument("--fd", type=int, required=True, help="a socket to the coordinator")
    chosen = flags.parse_args(arguments)
    with suppress(OSError):
        os.nice(NICENESS)
    # Arrow's own threads would cost memory, and the machine has work to do.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_IO_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        from lineshaft_coordinator.recorder.loop import record  # noqa: PLC0415 - after the above

        with socket.socket(fileno=chosen.fd) as link:
            record(chosen.data, link)
    except MissingPartError as error:
        sys.stderr.write(f"lineshaft-coordinator: no run records: {error}\n")
        return EXIT_MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main())
