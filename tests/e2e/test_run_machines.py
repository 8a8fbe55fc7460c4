"""How busy the machine of a job was stands in the record of its run."""

from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import farm, until
from tests.e2e.test_run_records import folder_of, get, recorder_of, until_closed
from tests.nvml.standin import GIB, NoCompilerError, StandinState, build_standin, environment

from lineshaft_records.side_tables import SYSTEM, lines_of, read_rows

WAIT = """
import os, signal
from lineshaft import run
run.log({"loss": 1.0}, step=1)
while not os.path.exists(run.params["gate"]):
    signal.sigtimedwait((), 0.05)
"""
OWN = {
    "gpu.1.util_pct": 50.0,
    "gpu.1.mem_used_mb": 0.0,
    "gpu.1.mem_total_mb": 8192.0,
    "gpu.1.temp_c": 61.0,
    "gpu.1.power_w": 123.45,
}


def test_s004_18_a_jobs_record_has_its_machine_and_its_gpus(tmp_path: Path) -> None:
    try:
        library = build_standin(tmp_path / "nvml")
    except NoCompilerError as error:
        pytest.skip(str(error))
    state = StandinState(tmp_path / "machine.txt")
    # A job for one GPU is given the smallest that will do, which is not the first.
    state.add_gpu("GPU-large", memory=80 * GIB, temp=35)
    state.add_gpu("GPU-small", memory=8 * GIB, util=50, temp=61, power=123_450)
    script = tmp_path / "train.py"
    script.write_text(WAIT)
    gate = tmp_path / "gate"
    with farm(tmp_path / "farm", "heartbeat_s=0.2", "first_workers_s=0") as here:
        here.start_worker("w1", environ=environment(library, state))
        with here.client() as client:
            here.until_ready(client)
            job = client.run(
                "train.py",
                files=[script],
                name="digits",
                params={"gate": str(gate)},
                resources={"gpus": 1, "gpu_memory": "1GiB"},
            )
            folder = folder_of(here, str(job.id))

            def looks() -> int:
                return len(read_rows(folder, SYSTEM))

            until(lambda: looks() > 0, what="its machine is noted", within_s=60.0)
            recorder = recorder_of(here)
            assert recorder is not None
            recorder.kill()  # What it wrote is there, and the next one goes on.
            before = looks()
            until(lambda: looks() > before, what="it is noted again", within_s=60.0)
            live = get(here, f"/api/v1/runs/{job.id}/metrics?system=true")["metrics"]
            gate.touch()
            assert until_closed(folder) == "FINISHED"

        rows = read_rows(folder, SYSTEM)
        curves = get(here, f"/api/v1/runs/{job.id}/metrics?names=sys/gpu.1.temp_c")["metrics"]

    assert [row.step for row in rows] == list(range(len(rows)))
    values = rows[-1].values
    assert {name: values[name] for name in values if name.startswith("gpu.")} == OWN
    assert 0 < float(values["mem.used_gb"]) < float(values["mem.total_gb"])
    assert {"loss", "sys/cpu.util_pct", "sys/gpu.1.power_w"} <= live.keys()
    assert set(curves["sys/gpu.1.temp_c"]["values"]) == {61.0}
    assert not lines_of(folder, SYSTEM).exists()


def test_s004_18_the_record_of_a_brief_job_has_its_machine(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("from lineshaft import run\nrun.log({'loss': 1.0}, step=1)\n")
    with farm(tmp_path / "farm", "heartbeat_s=0.2", "first_workers_s=0") as here:
        here.start_worker("w1")
        with here.client() as client:
            here.until_ready(client)

            def loads() -> list[Any]:
                workers: Any = client.workers()
                return [each["load"] for each in workers if each["load"]]

            until(loads, what="its worker tells how busy it is")
            job = client.run("train.py", files=[script], name="digits")
            folder = folder_of(here, str(job.id))
            assert until_closed(folder) == "FINISHED"

    assert "mem.used_gb" in read_rows(folder, SYSTEM)[0].values
