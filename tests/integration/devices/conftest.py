from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.nvml.probe import Probe
from tests.nvml.standin import NoCompilerError, StandinState, build_standin, environment


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build_standin(tmp_path_factory.mktemp("nvml"))
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture
def state(tmp_path: Path) -> StandinState:
    return StandinState(tmp_path / "machine.txt")


@pytest.fixture
def start_probe() -> Iterator[Callable[[dict[str, str]], Probe]]:
    with contextlib.ExitStack() as stack:
        yield lambda variables: stack.enter_context(Probe(variables))


@pytest.fixture
def probe(
    library: Path, state: StandinState, start_probe: Callable[[dict[str, str]], Probe]
) -> Probe:
    """A process that sees the stand-in, with NVML open unless the driver is away."""
    return start_probe(environment(library, state))
