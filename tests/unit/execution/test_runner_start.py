"""A runner starts with what it needs and no more: jobs wait for it."""

import subprocess
import sys

HEAVY = {"asyncio", "numpy", "pydantic", "ssl", "typing_extensions", "websockets"}


def test_a_runner_starts_without_what_takes_long_to_import() -> None:
    code = "import sys, lineshaft_worker.runner.__main__; print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    )

    assert HEAVY & {*done.stdout.split()} == set()
