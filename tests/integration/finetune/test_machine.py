"""What a trainer does not tell of its GPUs comes from the record of its run."""

from pathlib import Path

import pytest
from tests.e2e.farm import until
from tests.integration.finetune.training_bench import town
from tests.nvml.standin import GIB, NoCompilerError, StandinState, build_standin, environment


def test_s001_34_temperatures_of_the_machine_are_in_the_analytics(tmp_path: Path) -> None:
    try:
        library = build_standin(tmp_path / "nvml")
    except NoCompilerError as error:
        pytest.skip(str(error))
    state = StandinState(tmp_path / "machine.txt")
    state.add_gpu("GPU-a", memory=8 * GIB, util=90, temp=61)
    gpus = environment(library, state)
    with town(tmp_path / "town", "--set", "heartbeat_s=0.2", gpus=1, environ=gpus) as made:
        gate = made.gate()
        job_id = made.execute(steps=2, wait_at=1, gate=str(gate))

        def told() -> dict[str, float | None]:
            answer = made.ask("GET", f"/api/training/{job_id}/analytics")
            used: dict[str, float | None] = answer["resource_utilization"]
            return used

        until(lambda: told()["peak_gpu_temp_celsius"], what="its GPU is looked at", within_s=60.0)
        used = told()
        gate.touch()
        made.until_status(job_id, "completed")

    assert used["average_gpu_temp_celsius"] == used["peak_gpu_temp_celsius"] == 61.0
    assert used["average_gpu_utilization_percent"] == 50, "as the trainer said"
