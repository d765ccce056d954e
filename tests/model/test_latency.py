"""Percentiles from buckets: never below the truth, at most 6 % above it, and the same after adding up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.latency import BOUNDS_MS, BUCKETS_PER_DECADE, LatencyHistogram

latencies = st.floats(min_value=0.1, max_value=1e6, allow_nan=False)
RATIO = 10 ** (1 / BUCKETS_PER_DECADE)


def recorded(values: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    return histogram


def exact(values: list[float], percent: float) -> float:
    """The smallest value that so many per cent do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


@given(st.lists(latencies, min_size=1), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_at_most_a_bucket_above_the_truth(values: list[float], percent: float) -> None:
    told, truth = recorded(values).percentile_ms(percent), exact(values, percent)

    assert told is not None
    assert truth * (1 - 1e-9) <= told <= truth * RATIO * (1 + 1e-9)


def test_a_bucket_is_six_percent_wide() -> None:
    assert pytest.approx(1.06, abs=0.001) == RATIO
    assert (BOUNDS_MS[0], BOUNDS_MS[-1]) == (0.1, 1e6)


@given(st.lists(latencies), st.lists(latencies))
def test_merging_equals_recording_all_in_one(one: list[float], other: list[float]) -> None:
    merged, together = recorded(one), recorded(one + other)
    merged.merge(recorded(other))

    assert merged.counts == together.counts
    assert merged.sum_ms == pytest.approx(together.sum_ms)


@given(st.lists(latencies))
def test_a_histogram_is_itself_again_from_plain_values(values: list[float]) -> None:
    histogram = recorded(values)
    again = LatencyHistogram.from_plain(histogram.to_plain())

    assert again.counts == histogram.counts
    assert again.sum_ms == pytest.approx(histogram.sum_ms, abs=0.001)


def test_many_of_one_latency_are_recorded_at_once() -> None:
    histogram = LatencyHistogram()
    histogram.record(5, count=99)
    histogram.record(500)

    assert histogram.total == 100
    assert histogram.sum_ms == 5 * 99 + 500
    p99 = histogram.percentile_ms(99)
    assert p99 is not None
    assert 5 <= p99 < 5.4


def test_clocks_that_disagree_do_no_harm() -> None:
    histogram = recorded([-3.0])

    assert histogram.percentile_ms(50) == BOUNDS_MS[0]
    assert histogram.sum_ms == 0


def test_what_is_beyond_the_last_bound_is_told_as_the_last_bound() -> None:
    assert recorded([1e9]).percentile_ms(50) == BOUNDS_MS[-1]


def test_nothing_recorded_has_no_percentile() -> None:
    assert LatencyHistogram().percentiles_ms() == {"p50": None, "p95": None, "p99": None}


def test_what_is_no_histogram_is_named() -> None:
    with pytest.raises(TypeError, match="not a latency histogram"):
        LatencyHistogram.from_plain({"counts": [], "sum_ms": 0})
