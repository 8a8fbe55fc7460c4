"""`lineshaft` and `python -m lineshaft`."""

import sys


def main() -> int:
    """Run the command line; returns its exit code."""
    from lineshaft.cli.app import run  # noqa: PLC0415 - the import is part of what Ctrl-C may end

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
