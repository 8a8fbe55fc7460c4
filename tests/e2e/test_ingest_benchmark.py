from pathlib import Path

from benchmarks.ingest import measure


async def test_the_measured_rows_are_all_in_the_records(tmp_path: Path) -> None:
    found = await measure(tmp_path, runs=3, rate=600, seconds=1)

    assert (found["runs"], found["rows"]) == (3, 600)
    assert found["cpu_us_per_row"] > 0
