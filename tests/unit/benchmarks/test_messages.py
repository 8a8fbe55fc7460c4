from pathlib import Path

from benchmarks.messages import costs


def test_each_process_is_told_what_its_messages_cost(tmp_path: Path) -> None:
    found = costs(300, tmp_path / "store")

    assert found.keys() == {"client", "coordinator", "worker"}
    assert all(cost_us > 0 for parts in found.values() for cost_us in parts.values())
