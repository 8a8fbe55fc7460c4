"""What `import lineshaft` costs, which every job pays, and what it offers."""

import subprocess
import sys

import pytest

import lineshaft


def test_importing_the_package_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys, lineshaft\n"
        "heavy = {'asyncio', 'pydantic', 'cloudpickle', 'concurrent.futures', 'lineshaft.client'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert told.stdout == "[]\n"


@pytest.mark.parametrize("name", lineshaft.__all__)
def test_all_that_is_offered_is_there(name: str) -> None:
    assert getattr(lineshaft, name) is not None
    assert name in dir(lineshaft)


def test_what_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        lineshaft.no_such_name  # noqa: B018 - looking is the test
