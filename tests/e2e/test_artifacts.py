"""What jobs leave arrives whole, whatever it is called, however large it is, whoever dies."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import Farm, farm, until

from lineshaft import Client

NAMES = [
    "../up", "../../etc/passwd", "/etc/passwd", "a/../../up", "a/./b", "a//b", "a/", ".", "..",
    "C:drive", "x" * 300, "a/" * 600,
    "trailing. ",
]  # fmt: skip
SPELLED = {
    "back\\slash": "back(U+005C)slash", "nul\x00byte": "nul(U+0000)byte",
    "new\nline": "new(U+000A)line", "bell\x07": "bell(U+0007)", "\ud800": "(U+D800)",
    "turned \u202egnp.exe": "turned (U+202E)gnp.exe",
}  # fmt: skip
NAMED = f"""
from lineshaft import run
open("model", "w").write("weights")
run.artifact("model", name="good")
for name in {NAMES!r} + {[*SPELLED]!r}:
    run.artifact("model", name=name)
"""
OWN_NAMES = """
import os
from lineshaft import run
os.mkdir("outputs")
for name in (b"turned \\xe2\\x80\\xaegnp.exe", b"caf\\xe9"):
    open(name, "w").write("weights")
    open(b"outputs/" + name, "w").write("weights")
    run.artifact(os.fsdecode(name))
"""
LEAVES = """
import os
from lineshaft import run
os.mkdir("outputs")
with open("outputs/large.bin", "wb") as file:
    file.write(b"begin")
    file.truncate(run.params["bytes"])
"""
RECEDES = """
import signal
from pathlib import Path
from lineshaft import run
saved = run.latest_checkpoint()
while saved is None:
    signal.sigtimedwait((), 0.01)
    if run.should_pause():
        Path("state").write_text("41")
        run.checkpoint("state", step=41)
        run.paused()
run.result([int(Path(saved.path).read_text()), saved.attempt])
"""


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Farm]:
    """A coordinator that soon makes room for what is urgent."""
    with farm(tmp_path / "farm", "preempt_after_s=0.2") as made:
        made.start_worker("w1", "--slots", "1")
        yield made


def leaving(client: Client, size_bytes: int) -> Any:
    return client.run("job.py", files={"job.py": LEAVES}, params={"bytes": size_bytes})


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_no_name_of_an_artifact_leads_out_of_anything(pair: Farm, tmp_path: Path) -> None:
    with pair.client() as client:
        job = client.run("job.py", files={"job.py": NAMED})
        job.result(60)
        artifacts = job.artifacts()

        kept = [each for each in artifacts if each.problem is None]
        assert [each.name for each in kept] == ["good", *SPELLED.values()]
        assert all(each.sha256 is None for each in artifacts if each.problem is not None)
        assert len(artifacts) == 1 + len(NAMES) + len(SPELLED), "all of them are on the list"
        for each in kept:
            each.download(tmp_path / "got" / each.name)
    got = sorted(each.name for each in (tmp_path / "got").iterdir())
    assert got == sorted(["good", *SPELLED.values()])
    assert not (pair.home / "workers" / "up").exists()


def test_a_file_is_on_the_list_whatever_nobody_sees_in_its_own_name(pair: Farm) -> None:
    with pair.client() as client:
        job = client.run("job.py", files={"job.py": OWN_NAMES})
        job.result(60)
        artifacts = job.artifacts()

    wanted = ["caf(U+DCE9)", "turned (U+202E)gnp.exe"]
    assert sorted(each.name for each in artifacts) == sorted(wanted * 2)
    assert [each.problem for each in artifacts] == [None] * 4


def test_urgent_work_takes_the_place_of_what_can_wait_and_gives_it_back(hasty: Farm) -> None:
    with hasty.client() as client:
        hasty.until_ready(client)
        low = client.run("job.py", files={"job.py": RECEDES}, preemptible=True)
        until(lambda: low.status == "running", what="it has the only slot")

        urgent = client.submit(pow, 2, 5, priority=5)  # type: ignore[call-arg]

        assert urgent.result(60) == 32
        assert low.result(60) == [41, 1]
        story: Any = low.story()
        types = [record["type"] for record in story]
        assert types.count("AttemptStarted") == 2
        assert "preempted" in str(story)


def test_a_daemon_that_is_killed_while_it_stores_is_followed_by_one_that_goes_on(
    empty_farm: Farm, tmp_path: Path
) -> None:
    size_bytes = 256 << 20
    worker = empty_farm.start_worker("w1", "--slots", "1")
    with empty_farm.client() as client:
        empty_farm.until_ready(client)
        job = leaving(client, size_bytes)
        until(lambda: [*empty_farm.home.glob("workers/w1/kept/*@*/*.data*")], what="it is taken")

        worker.kill()
        empty_farm.start_worker("w1", "--slots", "1")

        assert job.result(60) is None
        (artifact,) = job.artifacts()
        path = artifact.download(tmp_path / "got.bin")
        assert (path.stat().st_size, hash_of(path)) == (size_bytes, artifact.sha256)
        story: Any = job.story()
        assert [r["attempt"] for r in story if r["type"] == "AttemptStarted"] == [1]
        until(lambda: not [*empty_farm.home.glob("workers/w1/kept/*")], what="nothing waits there")
