from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm


@pytest.fixture
def shell(pair: Farm, tmp_path: Path) -> Iterator[Shell]:
    """Commands for the coordinator of the module, in an empty folder."""
    shell = Shell(tmp_path, pair.environ)
    yield shell
    shell.end()


@pytest.fixture
def lone_shell(tmp_path: Path) -> Iterator[Shell]:
    """Commands on a machine where nothing was ever started."""
    shell = Shell(tmp_path, Farm(tmp_path).environ)
    yield shell
    shell.end()
