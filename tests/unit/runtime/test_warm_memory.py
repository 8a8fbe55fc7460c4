"""Memory that is kept for the next large value, and given back."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is of glibc")

COUNT_FAULTS = """
import resource, sys
from lineshaft_runtime.warm_memory import give_memory_back, keep_memory_warm

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_pages():
    return int(open("/proc/self/statm").read().split()[1])

if sys.argv[1] == "warm":
    assert keep_memory_warm()
for _ in range(20):
    before = faults()
    blocks = [bytearray(2**20) for _ in range(6)]
    del blocks
    taken = faults() - before
kept = resident_pages()
give_memory_back()
print(taken, (kept - resident_pages()) * 4096)
"""


def measured(how: str) -> list[int]:
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(number) for number in done.stdout.split()]


def test_large_memory_is_taken_again_without_page_faults_and_can_be_given_back() -> None:
    faults, given_back_bytes = measured("warm")
    cold_faults, _ = measured("cold")

    assert faults < 50
    assert cold_faults > 10 * max(faults, 1)
    assert given_back_bytes > 4 * 2**20
