"""From rows of a run to what people read of it."""

from pathlib import Path

import pytest
from benchmarks.report import BEGIN, END, NoMarkersError, update_document
from benchmarks.table import Results, aligned, floor_lines, reason_lines, results_of, table

ABOUT = {
    "about": {
        "date": "2026-01-02",
        "commit": "abc",
        "machine": "2 cores",
        "load": 0.1,
        "rounds": 3,
        "versions": {"ray": "2.60.0"},
    }
}


def row(system: str, scenario: str, **rest: object) -> dict[str, object]:
    return {"round": 1, "system": system, "workers": 1, "scenario": scenario, **rest}


def rate(system: str, *rates: float) -> list[dict[str, object]]:
    return [row(system, "noop-10k", figures={"tasks_per_s": each}) for each in rates]


def line_of(results: Results, begin: str) -> list[str]:
    (found,) = [line for line in table(results) if line[0].startswith(begin)]
    return found


def test_a_cell_is_the_median_of_its_rounds() -> None:
    results = results_of(rate("lineshaft", 9000, 100, 8000))

    assert line_of(results, "10,000 no-ops at once")[1] == "8,000"


def test_we_are_compared_with_the_best_peer_and_not_with_a_floor() -> None:
    results = results_of(
        rate("relay", 50_000)
        + rate("dask-tuned", 1500)
        + rate("dask", 300)
        + rate("lineshaft", 6000)
    )

    assert line_of(results, "10,000 no-ops at once") == [
        "10,000 no-ops at once (tasks/s)",
        "6,000",
        "300",
        "1,500",
        "50,000",
        "4 x (dask-tuned)",
        "≥ 8,000, ≥ 5 x",
    ]


def test_where_less_is_better_the_ratio_is_the_other_way_round() -> None:
    rows = [
        row("lineshaft", "noop-latency", figures={"p50_ms": 0.5}),
        row("ray", "noop-latency", figures={"p50_ms": 2.0}),
    ]

    assert line_of(results_of(rows), "no-op there and back, p50")[-2] == "4 x (ray)"


def test_what_was_not_measured_says_why() -> None:
    rows = [
        *rate("lineshaft", 6000),
        row("ray", "noop-10k", failed="nothing for 120 s"),
        row("parsl", "noop-10k", skipped="not installed: no such package"),
        row("parsl", "noop-1k", skipped="not installed: no such package"),
    ]

    results = results_of(rows)

    assert line_of(results, "10,000 no-ops at once")[1:4] == ["6,000", "failed", "skipped"]
    assert reason_lines(results) == [
        "ray, noop-10k: failed, nothing for 120 s",
        "parsl, noop-10k, noop-1k: skipped, not installed: no such package",
    ]


def test_floors_are_medians_with_their_units() -> None:
    results = results_of([{"floors": {"sha256_gb_per_s": each}} for each in (1.0, 1.5, 9.0)])

    assert floor_lines(results) == [["", "this machine"], ["SHA-256", "1.5 GB/s"]]


def test_a_table_on_a_terminal_has_straight_columns() -> None:
    lines = aligned(table(results_of(rate("lineshaft", 6000)))).splitlines()

    assert len(lines) == 2
    assert len({len(line) for line in lines}) == 1


def test_the_tables_of_a_document_are_replaced_and_the_rest_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")

    update_document(results_of([ABOUT, *rate("ray", 1400), *rate("lineshaft", 7000)]), page)
    update_document(results_of([ABOUT, *rate("ray", 1400), *rate("lineshaft", 8400)]), page)

    text = page.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n\nMeasured 2026-01-02, commit abc, 2 cores;")
    assert (
        "| 10,000 no-ops at once (tasks/s) | 8,400 | 1,400 | 6 x (ray) | ≥ 8,000, ≥ 5 x |" in text
    )
    assert "- ray: `ray` 2.60.0; " in text
    assert "7,000" not in text
    assert text.endswith(f"{END}\n\nafter\n")


def test_a_document_without_a_place_for_the_tables_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")

    with pytest.raises(NoMarkersError):
        update_document(results_of([ABOUT]), page)

    assert page.read_text() == "nothing here\n"
