"""What docs/cli.md promises."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def documented_codes() -> set[int]:
    """The exit codes in the table."""
    return {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}


def documented_commands() -> set[str]:
    """The commands that have a heading or a row of their own."""
    return set(re.findall(r"`lineshaft ([a-z]+(?: [a-z]+)?)", PAGE.read_text()))
