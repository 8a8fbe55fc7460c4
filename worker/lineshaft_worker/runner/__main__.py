"""``python -m lineshaft_worker.runner FOLDER``: serve one daemon until it is gone."""

import faulthandler
import sys
from io import TextIOWrapper

from lineshaft_worker.runner.loop import Runner


def main() -> int:
    """Run until the daemon is gone or the one pipeline job has ended."""
    faulthandler.enable()  # A segfault then says where, in the last lines of its output.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    (folder,) = sys.argv[1:]
    return Runner(folder).run()


if __name__ == "__main__":
    sys.exit(main())
