"""Fewer points that look alike."""

import numpy as np
import pytest

from lineshaft_records.thinning import label, thin


@pytest.mark.parametrize("count", [5, 1999, 2000, 2001, 4003, 100_000])
@pytest.mark.parametrize("points", [4, 10, 2000])
def test_there_are_never_more_points_than_asked_for_and_never_a_lost_peak(
    count: int, points: int
) -> None:
    values = np.random.default_rng(count).normal(size=count)

    places = thin(values, points)

    assert len(places) <= max(points, 4) or count <= points
    assert list(places) == sorted(set(places))
    assert {0, count - 1, int(values.argmin()), int(values.argmax())} <= set(places.tolist())


def test_the_same_points_come_out_each_time() -> None:
    values = np.sin(np.arange(10_000) / 77)

    assert thin(values, 100).tolist() == thin(values.copy(), 100).tolist()


def test_nan_hides_no_peak() -> None:
    values = np.full(1000, np.nan)
    values[[3, 997]] = [-5.0, 7.0]

    assert {3, 997} <= set(thin(values, 20).tolist())


def test_the_label_says_how_much_is_shown() -> None:
    assert label(2000, 1_000_000) == "2,000 of 1,000,000"
