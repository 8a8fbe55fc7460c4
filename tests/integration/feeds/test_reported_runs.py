"""Reported runs where no coordinator is needed: on the disk, and in backups."""

import io
from pathlib import Path

import pytest

from lineshaft_coordinator.server.backups import back_up, restore
from lineshaft_coordinator.store.errors import StoreDamagedError
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_coordinator.training_runs.book import RunBook
from lineshaft_coordinator.training_runs.logs import RunLogs
from lineshaft_coordinator.training_runs.models import Models
from lineshaft_coordinator.training_runs.reported import NewRun, ReportedRuns


async def _made(data: Path) -> None:
    store = SqliteStore(data)
    await store.open()
    await store.close()


async def test_reported_runs_are_in_a_backup_that_was_made_while_they_were_used(
    tmp_path: Path,
) -> None:
    data, target, again = tmp_path / "data", tmp_path / "backup", tmp_path / "again"
    await _made(data)
    book = RunBook(data)
    runs, models, logs = ReportedRuns(book), Models(book), RunLogs(book.folder / "runs")
    run = await runs.create(NewRun("n", "m", {"epochs": 1}), user_id="u")
    run_id = str(run["id"])
    await runs.record(run_id, {"epoch": 0, "step": 1, "loss": 0.5}, None)
    await logs.append(run_id, "info", "hello")
    model = await models.create("u", "net", "mlp", None)
    version = await models.add_version(str(model["id"]), io.BytesIO(b"weights"), "w.pt", None, None)

    back_up(data, target)
    restore(target, again)

    restored = RunBook(again)
    assert await ReportedRuns(restored).get(run_id) == await runs.get(run_id)
    assert len(await ReportedRuns(restored).metrics(run_id, limit=10)) == 1
    restored_logs = RunLogs(restored.folder / "runs")
    assert await restored_logs.read(run_id, offset=0, limit=9) == await logs.read(
        run_id, offset=0, limit=9
    )
    assert Models(restored).file_of(version).read_bytes() == b"weights"
    await book.close()
    await restored.close()


async def test_a_damaged_file_of_runs_ends_a_backup_with_its_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    await _made(data)
    (data / "tracking.sqlite").write_bytes(b"nonsense" * 1000)

    with pytest.raises(StoreDamagedError, match=r"tracking\.sqlite"):
        back_up(data, tmp_path / "backup")
