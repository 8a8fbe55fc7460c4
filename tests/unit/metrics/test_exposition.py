"""What we write is what Prometheus' own parser reads."""

from prometheus_client.parser import text_string_to_metric_families

from lineshaft_coordinator.metrics.exposition import (
    Counter,
    Family,
    Histogram,
    Split,
    Written,
    exposition,
)


def read(*families: Written) -> dict[str, dict[tuple[str, ...], float]]:
    """All samples by name, then by the values of their labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(exposition(families).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_labels_with_quotes_backslashes_and_new_lines_come_back_as_they_were() -> None:
    hostile = 'a"b\\c\nd'
    family = Family("gpu", "GPUs.\nTwo lines \\ here.", "gauge", {(("worker", hostile),): 1.5})

    assert read(family) == {"gpu": {(hostile,): 1.5}}


def test_a_counter_tells_from_the_start_what_has_not_happened() -> None:
    attempts = Counter("attempts_total", "Attempts.", "cause", {"failed": 0})
    attempts.add("succeeded")
    attempts.add("succeeded")

    assert read(attempts) == {"attempts_total": {("failed",): 0, ("succeeded",): 2}}


def test_buckets_count_what_is_at_most_their_bound() -> None:
    waits = Histogram("wait_seconds", "Waits.", (0.5, 1.0))
    for span_s in (0.25, 0.5, 0.75, 4.0, -1.0):
        waits.observe(span_s)

    assert read(waits) == {
        "wait_seconds_bucket": {("0.5",): 3, ("1.0",): 4, ("+Inf",): 5},
        "wait_seconds_sum": {(): 5.5},
        "wait_seconds_count": {(): 5},
    }


def test_large_and_small_numbers_lose_nothing() -> None:
    values = {((("kind", str(value))),): float(value) for value in (2**50 + 1, 1e-9, 0)}

    assert read(Family("g", "G.", "gauge", values))["g"] == {
        (str(value),): float(value) for value in (2**50 + 1, 1e-9, 0)
    }


def test_sorts_of_a_histogram_are_told_apart_by_a_label_under_one_head() -> None:
    found, made = (Histogram("env_seconds", "Environments.", (1.0,)) for _ in range(2))
    found.observe(0.5)
    made.observe(2.0)
    both = Split("hit", {"true": found, "false": made})

    assert read(both) == {
        "env_seconds_bucket": {
            ("true", "1.0"): 1,
            ("true", "+Inf"): 1,
            ("false", "1.0"): 0,
            ("false", "+Inf"): 1,
        },
        "env_seconds_sum": {("true",): 0.5, ("false",): 2.0},
        "env_seconds_count": {("true",): 1, ("false",): 1},
    }
    assert [line for line in both.lines() if line.startswith("#")] == [
        "# HELP env_seconds Environments.",
        "# TYPE env_seconds histogram",
    ]
