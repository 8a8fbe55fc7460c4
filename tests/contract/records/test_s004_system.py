"""How busy the machine was: seed 004's system.parquet, read by the real expman."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from tests.contract.records.real_expman import installed
from tests.e2e.farm import DEADLINE_S, until
from tests.nvml.standin import (
    GIB,
    GPU_IS_LOST,
    NoCompilerError,
    StandinState,
    build_standin,
    environment,
)

from lineshaft_records import Run, side_tables
from lineshaft_records.catalog import Catalog
from lineshaft_records.documents import read_info
from lineshaft_records.layout import RunFolder
from lineshaft_records.machine import Machine
from lineshaft_records.side_tables import SYSTEM, SideRow, add, lines_of, read_rows
from lineshaft_records.system_curves import SystemNames, system_curves

STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n"
MEMINFO = "MemTotal: 4194304 kB\nMemFree: 1 kB\nMemAvailable: 1048576 kB\n"


@pytest.fixture
def expman() -> ModuleType:
    found: ModuleType = pytest.importorskip("expman", reason="expman-rs is not installed")
    return found


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "7").mkdir(parents=True)
    (folder / "stat").write_text(STAT.format(busy=100, idle=900))
    (folder / "meminfo").write_text(MEMINFO)
    (folder / "7" / "statm").write_text("99999 262144 0 0 0 0 0\n")
    return folder


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandinState:
    """A machine with GPUs, to processes that are started from here on."""
    try:
        library = build_standin(tmp_path / "nvml")
    except NoCompilerError as error:
        pytest.skip(str(error))
    state = StandinState(tmp_path / "machine.txt")
    for name, value in environment(library, state).items():
        monkeypatch.setenv(name, value)
    return state


def opened(base: Path, *, every_s: float) -> Run:
    return Run("e", "r", base=base, console=False, provenance=False, system_s=every_s)


def looks(folder: RunFolder) -> list[SideRow]:
    return read_rows(folder, SYSTEM)


def test_s004_18_a_machine_is_told_in_expmans_columns_and_units(proc: Path) -> None:
    machine = Machine(7, proc)
    (proc / "stat").write_text(STAT.format(busy=175, idle=1125))

    found = machine.look()

    assert found == {
        "cpu.util_pct": 25.0,
        "mem.util_pct": 75.0,
        "mem.used_gb": 3.0,
        "mem.total_gb": 4.0,
        "proc.rss_gb": 1.0,
    }


def test_s004_18_what_a_machine_does_not_tell_is_left_out(proc: Path) -> None:
    machine = Machine(7, proc)
    (proc / "7" / "statm").unlink()
    (proc / "meminfo").write_text("nonsense\n")

    assert machine.look() == {}, "no tick has passed, either"


def test_s004_18_expman_reads_how_busy_machine_and_gpus_were(
    expman: ModuleType, gpus: StandinState, tmp_path: Path
) -> None:
    gpus.add_gpu("GPU-a", memory=8 * GIB, used=2 * GIB, util=50, temp=61, power=123_450)
    gpus.add_gpu("GPU-b", error=GPU_IS_LOST)
    with opened(tmp_path, every_s=0.02) as run:
        until(lambda: len(looks(run.folder)) > 2, what="it looks at the machine")
    theirs = expman.read_system_metrics(str(run.path))

    assert len(theirs) > 2
    assert [row["step"] for row in theirs] == list(range(len(theirs)))
    last = theirs[-1]
    assert {name: last[name] for name in last if name.startswith("gpu.")} == {
        "gpu.0.util_pct": 50.0,
        "gpu.0.mem_used_mb": 2048.0,
        "gpu.0.mem_total_mb": 8192.0,
        "gpu.0.temp_c": 61.0,
        "gpu.0.power_w": 123.45,
    }
    assert 0 < last["mem.used_gb"] < last["mem.total_gb"]
    assert 0 < last["proc.rss_gb"] < last["mem.total_gb"]
    assert 0 <= last["cpu.util_pct"] <= 100


def test_a_gpu_without_sensors_tells_all_else(gpus: StandinState, tmp_path: Path) -> None:
    gpus.add_gpu("GPU-a", memory=8 * GIB, used=2 * GIB, util=50, temp=-1, power=-1)
    with opened(tmp_path, every_s=0.02) as run:
        until(lambda: looks(run.folder), what="it looks at the machine")

    last = looks(run.folder)[-1]

    assert [name for name in last.values if name.startswith("gpu.")] == [
        "gpu.0.util_pct",
        "gpu.0.mem_used_mb",
        "gpu.0.mem_total_mb",
    ]


def test_a_driver_that_hangs_costs_its_gauges_only_and_is_told_once(
    gpus: StandinState, tmp_path: Path
) -> None:
    gpus.add_gpu("GPU-a", util=50)
    with opened(tmp_path, every_s=0.02) as run:
        until(
            lambda: any("gpu.0.util_pct" in row.values for row in looks(run.folder)), what="a GPU"
        )
        run.info("from here on its driver hangs")
        gpus.hang()
        until(lambda: "does not answer" in run.folder.log.read_text(), what="its silence is told")
        run.log_metrics({"loss": 1.0}, step=1)
        assert run.flush(DEADLINE_S), "the run is recorded all the while"
        count = len(looks(run.folder))
        until(lambda: len(looks(run.folder)) > count + 2, what="the machine is looked at")
        assert [name for name in looks(run.folder)[-1].values if name.startswith("gpu.")] == []
        assert "mem.used_gb" in looks(run.folder)[-1].values

        gpus.hang(is_hanging=False)
        until(lambda: "gpu.0.util_pct" in looks(run.folder)[-1].values, what="the GPU is back")
        gpus.hang()

    assert run.folder.log.read_text().count("does not answer") == 1
    assert read_info(run.folder).status == "FINISHED", "nor does its end wait for the driver"


def test_s004_18_expmans_own_columns_are_ours(
    gpus: StandinState, tmp_path: Path, expman: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It asks a program for GPUs, we ask the library.
    gpus.add_gpu("GPU-a", memory=8 * GIB, temp=61, power=123_450)
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '0, 50, 30, 1024, 8192, 61, 123.45'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    theirs = expman.Experiment(
        "e", "theirs", str(tmp_path), redirect_console=False, system_metrics_interval_secs=1
    )
    with (
        opened(tmp_path, every_s=0.02) as run,
        theirs,
    ):
        until(lambda: looks(run.folder), what="it looks at the machine")
        until(
            lambda: any(
                "cpu.util_pct" in row for row in expman.read_system_metrics(theirs.run_dir)
            ),
            what="expman looks at the machine",
        )
    ours = expman.read_system_metrics(str(run.path))[-1]

    # NVML's second number, how busy the memory's bus was, says little, and is left out.
    wanted = expman.read_system_metrics(str(tmp_path / "e" / "theirs"))[-1].keys()
    assert wanted - ours.keys() == {"gpu.0.mem_util_pct"}
    assert ours.keys() <= wanted


def test_s004_18_the_machine_stands_beside_the_curves_of_a_run(tmp_path: Path) -> None:
    with opened(tmp_path, every_s=0.02) as run:
        run.log_metrics({"loss": 1.0}, step=7)
        assert run.flush(DEADLINE_S)
        until(lambda: len(looks(run.folder)) > 1, what="it looks at the machine")
        with closing(Catalog(tmp_path)) as catalog:
            live = catalog.metrics(run="r", system=True)["metrics"]
    with closing(Catalog(tmp_path)) as catalog:
        named = catalog.metrics(run="r", names=["loss", "sys/mem.used_gb"])["metrics"]
        plain = catalog.metrics(run="r")["metrics"]
        told = catalog.run(run="r")["system"]

    assert {"loss", "sys/mem.used_gb", "sys/cpu.util_pct"} <= live.keys()
    assert [*named] == ["loss", "sys/mem.used_gb"]
    assert named["sys/mem.used_gb"]["steps"][:2] == [0, 1]
    assert [*plain] == ["loss"], "only who asks for it gets it"
    assert "sys/mem.used_gb" in told


def test_s004_18_a_long_run_is_shown_by_its_extremes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "e" / "r")
    folder.live.mkdir(parents=True)
    add(folder, SYSTEM, [SideRow(i, i, {"a": float(i == 500)}) for i in range(1000)])
    with lines_of(folder, SYSTEM).open("a") as file:
        file.write('[1000, 1000, {"a": 5')  # whoever wrote it was killed

    curve = system_curves(folder, None, 20)["sys/a"]

    assert (curve["there_are"], curve["label"]) == (1000, f"{len(curve['steps'])} of 1,000")
    assert 1.0 in curve["values"]
    assert len(curve["values"]) <= 20


def test_what_a_run_tells_of_its_machine_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = RunFolder(tmp_path / "e" / "r"), list[SideRow]()
    folder.live.mkdir(parents=True)
    rows_of = side_tables.rows_of

    def counted(lines: Iterable[bytes]) -> Iterator[SideRow]:
        for row in rows_of(lines):
            read.append(row)
            yield row

    monkeypatch.setattr("lineshaft_records.system_curves.rows_of", counted)
    names = SystemNames()
    add(folder, SYSTEM, [SideRow(i, i, {"a": 1.0}) for i in range(100)])

    first = names.of(folder)
    add(folder, SYSTEM, [SideRow(100, 100, {"b": 1.0, "a": 2.0})])
    with lines_of(folder, SYSTEM).open("a") as file:
        file.write('[101, 101, {"c": ')
    second = names.of(folder)
    with lines_of(folder, SYSTEM).open("a") as file:
        file.write("5}]\n")
    third, again = names.of(folder), names.of(folder)
    assert (first, second) == (["sys/a"], ["sys/a", "sys/b"])
    assert third == again == ["sys/a", "sys/b", "sys/c"]
    assert len(read) == 102, "what was read once is known"

    side_tables.publish(folder, SYSTEM)
    shutil.rmtree(folder.live)
    with monkeypatch.context() as only:
        only.setattr("pyarrow.parquet.read_table", None)
        assert names.of(folder) == names.of(folder) == third, "the footer of its file says it"
    (folder.path / "system.parquet").unlink()
    assert names.of(folder) == []


def test_s004_18_nothing_is_looked_at_where_nobody_wants_it(tmp_path: Path) -> None:
    with opened(tmp_path, every_s=0) as run:
        run.log_metrics({"loss": 1.0})
        assert run.flush(DEADLINE_S)

    assert not (run.path / "system.parquet").exists()


def test_s004_18_expmans_command_goes_on_reading_such_a_run(tmp_path: Path) -> None:
    program = installed(tmp_path)
    with opened(tmp_path, every_s=0.02) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        run.log_histogram("w", [1.0, 2.0], step=1)
        run.log_image("i", b"\x89PNG", step=1)
        until(lambda: looks(run.folder), what="it looks at the machine")

    assert "Status: FINISHED" in program.say("inspect", run.path)
    assert [row["loss"] for row in program.exported(run.path, tmp_path / "rows.json")] == [1.0]
