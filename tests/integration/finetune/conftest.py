from collections.abc import Iterator

import pytest
from tests.integration.finetune.training_bench import Town, town


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A training server for a module's tests."""
    with town(tmp_path_factory.mktemp("town"), at_once=2) as made:
        yield made
