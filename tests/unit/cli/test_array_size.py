"""How many items `--array N` may have is said before they are made."""

import pytest

from lineshaft.cli.arrays import read_array
from lineshaft.cli.exits import UsageError


@pytest.mark.parametrize("text", ["0", "1000001", "99999999999", "9" * 5000])
def test_an_array_of_no_items_or_of_too_many_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="an array has 1 to 1000000 items"):
        read_array(text)


def test_an_array_may_have_a_million_items() -> None:
    assert read_array("1000000") == 1_000_000
