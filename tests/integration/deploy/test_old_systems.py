"""Seed 004's promise to old systems: what we need is there as wheels for them, and ours is pure.

The registry is asked which wheels there are, by uv's resolver; without it these tests are skipped.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = ("all", "redis", "store", "records", "worker", "coordinator", "fast", "demo")
OLDEST = ("x86_64-manylinux2014", "aarch64-manylinux2014")
"""glibc 2.17, of 2012: older than any Linux that Python 3.11 is made for."""
UNREACHABLE = ("Failed to fetch", "dns error", "error sending request", "Could not connect")


def do(*words: str | Path, folder: Path = ROOT) -> str:
    """Run uv; skips where the registry cannot be reached."""
    kept = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run(
        [uv.find_uv_bin(), *map(str, words)],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0 and any(each in done.stderr for each in UNREACHABLE):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def resolved(requirement: str, platform: str, python: str, folder: Path) -> list[str]:
    """Which wheels would be installed there; none is ever built."""
    wanted = folder / "wanted.txt"
    wanted.write_text(requirement)
    said = do(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"),
        *("--python-platform", platform, "--python-version", python, wanted),
    )
    return said.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, made from what git would ship."""
    folder = tmp_path_factory.mktemp("dist")
    do("build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


def test_s004_19_our_wheel_is_pure_python_for_any_system(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (about,) = [each for each in names if each.endswith(".dist-info/WHEEL")]
        assert b"Root-Is-Purelib: true" in content.read(about)
    compiled = [each for each in names if Path(each).suffix in (".so", ".pyd", ".dylib", ".a")]
    assert compiled == []
    assert "lineshaft_records/run.py" in names


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("platform", OLDEST)
def test_s004_19_every_extra_is_there_as_wheels_for_glibc_2_17(
    wheel: Path, platform: str, python: str, tmp_path: Path
) -> None:
    wanted = f"lineshaft[{','.join(EXTRAS)}] @ {wheel.as_uri()}\n"

    found = {line.partition("==")[0] for line in resolved(wanted, platform, python, tmp_path)}

    parts = {"pyarrow", "numpy", "pydantic-core", "cryptography", "uvloop", "scikit-learn", "uv"}
    assert parts <= found, "the parts that are not pure Python"


def test_s004_19_a_package_without_such_a_wheel_would_be_noticed(tmp_path: Path) -> None:
    # Its wheels are for newer systems: with such a requirement the test above would fail.
    with pytest.raises(AssertionError, match="no usable wheels"):
        resolved("pyarrow==26.0.1\n", OLDEST[0], "3.11", tmp_path)


RECORD = """
import sys
from lineshaft_records import Run
with Run("digits", "first", console=False) as run:
    run.log_metrics({"loss": 0.5}, step=1)
"""


def test_s004_19_a_clean_environment_with_the_oldest_wheels_records_a_run(
    wheel: Path, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("wheels for Linux")
    platform = f"{os.uname().machine}-manylinux2014"
    if platform not in OLDEST:
        pytest.skip(f"no such wheels are asked for on {os.uname().machine}")
    clean = tmp_path / "clean"
    do("venv", "--quiet", "--python", sys.executable, clean)
    python = clean / "bin" / "python"
    do(
        *("pip", "install", "--quiet", "--python", python, "--only-binary", ":all:"),
        *("--python-platform", platform, f"lineshaft[records] @ {wheel.as_uri()}"),
    )
    (tmp_path / "train.py").write_text(RECORD)

    subprocess.run([python, "train.py"], cwd=tmp_path, check=True, timeout=120)
    listed = subprocess.run(
        [clean / "bin" / "lineshaft", "runs", "list", "--dir", "experiments"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert listed.stdout.splitlines()[-1].split()[:3] == ["digits", "first", "FINISHED"]
