"""What Prometheus is told of changes: how many were decided how, and how long each step took."""

from collections.abc import Iterable

from prometheus_client import Counter
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from sinks.status import Report
from syncline.model.latency import BOUNDS_MS, LatencyHistogram

CHANGES_TOTAL = Counter("syncline_changes", "Changes decided, by what was decided.", ["flow", "decision"])


class LatencyCollector(Collector):
    """The process's histograms for Prometheus; its own client can only record one value at a time."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.histograms: dict[tuple[str, str], LatencyHistogram] = {}
        registry.register(self)

    def add(self, flow: str, report: Report) -> None:
        for step, histogram in report.histograms.items():
            self.histograms.setdefault((flow, step), LatencyHistogram()).merge(histogram)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(
            "syncline_step_duration_seconds", "Time that changes took for each step.", labels=["flow", "step"]
        )
        for (flow, step), histogram in list(self.histograms.items()):
            seen, buckets = 0, []
            for bucket, bound_ms in enumerate(BOUNDS_MS):
                seen += histogram.counts.get(bucket, 0)
                buckets.append((f"{bound_ms / 1000:g}", float(seen)))
            buckets.append(("+Inf", float(histogram.total)))
            family.add_metric([flow, step], buckets, histogram.sum_ms / 1000)
        yield family


LATENCY = LatencyCollector()
