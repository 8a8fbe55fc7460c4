"""A checkpoint of an earlier attempt is brought back once, whoever asks, and however many do."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lineshaft_runtime.kept import CannotRestoreError, describe, pack_folder, restore

RANKS = 4
ROUNDS = 25
FACTS = {"step": 7, "metadata": {}, "attempt": 1}


@pytest.mark.parametrize("is_folder", [True, False])
def test_ranks_that_ask_at_once_all_get_the_whole_checkpoint(
    tmp_path: Path, is_folder: bool
) -> None:
    (tmp_path / "made").mkdir()
    names = [f"{number}.bin" for number in range(20)] if is_folder else ["model.bin"]
    for name in names:
        (tmp_path / "made" / name).write_bytes(name.encode() * 1000)
    blob = tmp_path / "made" / "model.bin"
    if is_folder:
        blob = tmp_path / "model.tar"
        pack_folder(tmp_path / "made", blob)

    def found(description: Path, start: threading.Barrier) -> dict[str, bytes]:
        start.wait()
        path = Path(restore(str(description)).path)
        files = path.iterdir() if is_folder else [path]
        return {each.name: each.read_bytes() for each in files}

    for number in range(ROUNDS):
        folder = tmp_path / f"job-{number}"
        folder.mkdir()
        description = folder / "a1.resume"
        describe(str(description), blob, "model.bin", is_folder=is_folder, facts=FACTS)
        start = threading.Barrier(RANKS)
        with ThreadPoolExecutor(RANKS) as ranks:
            answers = [ranks.submit(found, description, start) for _ in range(RANKS)]

        expected = {name: name.encode() * 1000 for name in names}
        assert [answer.result() for answer in answers] == [expected] * RANKS
        assert {each.name for each in folder.iterdir()} == {"a1.resume", "a1.resumed"}


def test_a_damaged_checkpoint_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    blob, description = tmp_path / "model.tar", tmp_path / "a1.resume"
    blob.write_bytes(b"no archive")
    describe(str(description), blob, "model", is_folder=True, facts=FACTS)

    with pytest.raises(CannotRestoreError, match="checkpoint model cannot be restored"):
        restore(str(description))

    assert sorted(tmp_path.iterdir()) == [description, blob]
