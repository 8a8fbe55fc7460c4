"""Files of pipeline jobs, from the client's folder to the job's."""

from pathlib import Path

from tests.e2e.farm import Farm

MAIN = """
import hashlib
from pathlib import Path

def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]

def main():
    files = [path for path in sorted(Path().rglob("*")) if path.suffix in (".bin", ".tmp")]
    found = {path.as_posix(): digest(path) for path in files}
    Path("part0.bin").write_bytes(b"changed by the job")
    return found
"""


def blobs(farm: Farm) -> dict[str, int]:
    """Name and length of what the coordinator stores."""
    found = (path for path in (farm.folder / "data" / "blobs").rglob("*") if path.is_file())
    return {path.name: path.stat().st_size for path in found if len(path.name) == 62}


def test_only_the_files_that_changed_are_sent_and_the_job_cannot_spoil_them(
    pair: Farm, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "main.py").write_text(MAIN)
    (project / ".gitignore").write_text("*.tmp\n")
    (project / "scratch.tmp").write_text("not sent")
    for number in range(40):
        (project / f"part{number}.bin").write_bytes(f"part {number} ".encode() * 2000)
    files = {"": project}

    with pair.client() as client:
        first = client.run("main.py:main", files=files).result(60)
        again = client.run("main.py:main", files=files).result(60)
    before = blobs(pair)
    (project / "part7.bin").write_bytes(b"other " * 3000)
    with pair.client() as client:
        changed = client.run("main.py:main", files=files).result(60)

    assert len(first) == 40
    assert "scratch.tmp" not in first
    assert again == first
    assert {name for name in first if first[name] != changed[name]} == {"part7.bin"}
    new = {name: size for name, size in blobs(pair).items() if name not in before}
    assert max(new.values()) == 18_000
    assert sum(new.values()) < 18_000 + 10_000  # and perhaps the list of names
