"""F32: the tests of real processes can fail; run by `make mutants`."""

import os
from pathlib import Path

import pytest
from tests.faults.planted import PLANTED, ROOT, notices
from tests.faults.scale import tell

IS_WANTED = os.environ.get("LINESHAFT_MUTANTS", "") == "1"


def test_each_planted_bug_fits_into_the_code_as_it_is() -> None:
    for name, bug in PLANTED.items():
        assert (ROOT / bug.file).read_text().count(bug.right) == 1, name
        assert bug.right != bug.wrong
        file, _, test = bug.test.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), name


@pytest.mark.skipif(not IS_WANTED, reason="`make mutants` runs it: it starts other tests")
@pytest.mark.parametrize("name", PLANTED)
def test_a_bug_planted_into_real_processes_is_caught(name: str, tmp_path: Path) -> None:
    is_caught, said = notices(name, tmp_path)

    assert is_caught, f"nobody noticed that {name}:\n{said}"
    tell("F32", f"planted: {name}", 1, "caught")
