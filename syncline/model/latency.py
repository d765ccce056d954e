"""Latency histograms that can be added up across processes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from itertools import accumulate

BUCKETS_PER_DECADE = 40
BOUNDS_MS: tuple[float, ...] = tuple(
    10 ** (exponent / BUCKETS_PER_DECADE)
    for exponent in range(-1 * BUCKETS_PER_DECADE, 6 * BUCKETS_PER_DECADE + 1)
)
"""Upper bounds from 0.1 ms to 1,000 s, each 6 % above the one before it: no percentile is off by more."""

_bucket_of_us = partial(bisect_left, [int(bound_ms * 1000) for bound_ms in BOUNDS_MS])


class LatencyHistogram:
    """Counts by bucket, so that percentiles of many processes come from adding their counts."""

    def __init__(self, counts: Mapping[int, int] | None = None, sum_ms: float = 0.0) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.sum_ms = sum_ms

    def record(self, latency_ms: float, count: int = 1) -> None:
        """Count changes that took this long each; clocks that disagree may make it negative."""
        bucket = bisect_left(BOUNDS_MS, latency_ms)
        self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.sum_ms += max(latency_ms, 0.0) * count

    def record_each(self, latencies_us: Collection[int]) -> None:
        """Count changes that took so long one by one."""
        for bucket, count in Counter(map(_bucket_of_us, latencies_us)).items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.sum_ms += sum(latencies_us) / 1000

    def merge(self, other: "LatencyHistogram") -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.sum_ms += other.sum_ms

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def percentile_ms(self, percent: float) -> float | None:
        """The upper bound of the bucket that holds the percentile; ``None`` when nothing was recorded."""
        if not self.counts:
            return None
        rank = self.total * percent / 100
        buckets = sorted(self.counts)
        for bucket, seen in zip(buckets, accumulate(self.counts[b] for b in buckets), strict=True):
            if seen >= rank:
                return BOUNDS_MS[min(bucket, len(BOUNDS_MS) - 1)]
        raise AssertionError("the last bucket's count is the total")

    def percentiles_ms(self, percents: Iterable[float] = (50, 95, 99)) -> dict[str, float | None]:
        return {f"p{percent:g}": self.percentile_ms(percent) for percent in percents}

    def to_plain(self) -> dict[str, object]:
        return {
            "sum_ms": round(self.sum_ms, 3),
            "counts": {str(b): n for b, n in sorted(self.counts.items())},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> "LatencyHistogram":
        counts, sum_ms = plain["counts"], plain["sum_ms"]
        if not isinstance(counts, Mapping) or not isinstance(sum_ms, int | float):
            raise TypeError(f"not a latency histogram: {plain!r}")
        return cls({int(bucket): int(count) for bucket, count in counts.items()}, float(sum_ms))
