"""What all tests of run records share."""

import pytest
from tests.e2e.farm import DEADLINE_S


@pytest.fixture(autouse=True)
def runs_wait_for_their_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's end waits for its files for as long as a test waits for anything.

    Whoever trains is let go after seconds, and the keeper goes on alone; on a busy machine the
    files that a test then reads are not whole yet.
    """
    monkeypatch.setattr("lineshaft_records.run.CLOSE_WAIT_S", DEADLINE_S)
