"""Step 9: the record that changes are in the store, with the time that each step took.

One row of ``sync.status`` for about every second of a worker. Fire and forget: a row that cannot be
written now is merged into the next one, and the flow never waits.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from sinks.postgres import PostgresWriter
from sinks.redis_invalidation import Invalidated
from syncline.clock import Clock, system_clock_us
from syncline.model.decision import LaneWatermark
from syncline.model.errors import FatalError, SynclineError, TransientError
from syncline.model.latency import BOUNDS_MS, LatencyHistogram
from syncline.model.outbox import Publication
from syncline.model.steps import END_TO_END

_log = structlog.get_logger()

CALIBRATE_EVERY = timedelta(minutes=1)
KEEP_RECORDS = timedelta(days=1)

CHANGES_TOTAL = PrometheusCounter(
    "syncline_changes", "Changes decided, by what was decided.", ["flow", "decision"]
)


@dataclass(slots=True)
class Report:
    """What a worker did since the report before."""

    counts: Counter[str] = field(default_factory=Counter)
    oldest_commit_us: int | None = None
    newest_commit_us: int | None = None
    positions: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, LatencyHistogram] = field(default_factory=dict)

    def commit(self, committed_at_us: int) -> None:
        if self.oldest_commit_us is None or committed_at_us < self.oldest_commit_us:
            self.oldest_commit_us = committed_at_us
        if self.newest_commit_us is None or committed_at_us > self.newest_commit_us:
            self.newest_commit_us = committed_at_us

    def latency(self, step: str, latency_us: int, count: int = 1) -> None:
        histogram = self.histograms.get(step)
        if histogram is None:
            histogram = self.histograms[step] = LatencyHistogram()
        histogram.record(latency_us / 1000, count)

    def latencies(self, step: str, latencies_us: Iterable[int]) -> None:
        """Record one for each change; many changes of a batch share theirs, to a tenth of a millisecond."""
        for tenths_ms, count in Counter(latency_us // 100 for latency_us in latencies_us).items():
            self.latency(step, tenths_ms * 100, count)

    def merge(self, later: "Report") -> None:
        self.counts.update(later.counts)
        for commit_us in (later.oldest_commit_us, later.newest_commit_us):
            if commit_us is not None:
                self.commit(commit_us)
        for partition, position in later.positions.items():
            self.positions[partition] = max(position, self.positions.get(partition, -1))
        for step, histogram in later.histograms.items():
            self.histograms.setdefault(step, LatencyHistogram()).merge(histogram)


class StatusWriter:
    """Writes reports of one worker of one flow, in the background, one at a time."""

    def __init__(self, flow: str, worker: str, dsn: str, clock: Clock, interval: timedelta) -> None:
        self.clock_offset_us = 0
        """The database's clock minus this machine's."""
        self._flow = flow
        self._worker = worker
        self._run = str(uuid4())
        self._clock = clock
        self._interval_us = int(interval.total_seconds() * 1e6)
        self._writer = PostgresWriter(dsn, "status", f"syncline-{flow}-confirm")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="confirm")
        self._under_way_report = Report()
        self._next_report_us = 0
        self._next_calibration_us = 0
        self._report = Report()
        self._watermarks: dict[str, int] = {}
        self._under_way = self._thread.submit(self._calibrate)
        self._under_way.add_done_callback(_tell)

    def add(self, report: Report, watermarks: Mapping[str, int]) -> None:
        """Take a report; write when the last one is long enough ago. Raises what only a person can mend."""
        self._report.merge(report)
        self._watermarks.update(watermarks)
        if self._clock() < self._next_report_us or not self._under_way.done():
            return
        if isinstance(error := self._under_way.exception(), FatalError):
            raise error
        self._start_writing("running")

    def close(self) -> None:
        """Write what is left, and say that the worker has stopped."""
        self._start_writing("stopped")
        self._thread.shutdown()
        self._writer.close()

    def _start_writing(self, state: str) -> None:
        self._next_report_us = self._clock() + self._interval_us
        report, self._report = self._report, Report()
        if self._under_way.exception() is not None:
            self._under_way_report.merge(report)
            report = self._under_way_report
        self._under_way_report = report
        row = status_row(self._flow, self._run, self._worker, state, report, dict(self._watermarks))
        self._under_way = self._thread.submit(self._write, row)
        self._under_way.add_done_callback(_tell)

    def _write(self, row: dict[str, Any]) -> None:
        self._writer.write([row])
        if self._clock() >= self._next_calibration_us:
            try:
                self._calibrate()
            except TransientError as error:
                # The row is written: it must not be taken for one that waits.
                _log.warning("clocks are compared later", error=str(error))

    def _calibrate(self) -> None:
        """Compare clocks: halfway through a short question is when the answer was given."""
        self._writer.connect()
        asked_us = self._clock()
        database_us = self._writer.time_us()
        answered_us = self._clock()
        self.clock_offset_us = database_us - (asked_us + answered_us) // 2
        self._next_calibration_us = answered_us + int(CALIBRATE_EVERY.total_seconds() * 1e6)

    def _forget(self) -> None:
        self._writer.connect().execute(
            "DELETE FROM sync.status WHERE flow = %s AND state <> 'failed' AND recorded_at < %s",
            (self._flow, datetime.now(UTC) - KEEP_RECORDS),
        )


def _tell(done: Future[None]) -> None:
    error = done.exception()
    if isinstance(error, SynclineError):
        _log.warning("a confirmation waits for the next one", error=str(error))
    elif error is not None:
        _log.error("a confirmation waits for the next one", error=repr(error))


def status_row(
    flow: str,
    run: str,
    worker: str,
    state: str,
    report: Report,
    watermarks: Mapping[str, int],
    error: str | None = None,
) -> dict[str, Any]:
    """The row of ``sync.status`` for a report."""
    return {
        "flow": flow,
        "run": run,
        "worker": worker,
        "state": state,
        "counts": {str(decision): count for decision, count in report.counts.items()},
        "oldest_commit_us": report.oldest_commit_us,
        "newest_commit_us": report.newest_commit_us,
        "positions": report.positions,
        "watermarks": watermarks,
        "latency_ms": {step: histogram.percentiles_ms() for step, histogram in report.histograms.items()},
        "histograms": {step: histogram.to_plain() for step, histogram in report.histograms.items()},
        "error": error,
    }


def record_failure(flow: str, dsn: str, error: str) -> None:
    """Leave word of why a flow ended."""
    writer = PostgresWriter(dsn, "status", f"syncline-{flow}-failure")
    try:
        writer.write([status_row(flow, str(uuid4()), "main", "failed", Report(), {}, error)])
    finally:
        writer.close()


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


def report_of(items: Sequence[Invalidated], now_us: int, clock_offset_us: int) -> Report:
    """What a batch of confirmed changes amounts to.

    Times of the database and of this machine meet in two of the steps; there the offset evens them out.
    """
    report = Report()
    applied = [item.applied for item in items]
    parts = [each.part for each in applied]
    changes = [part.change for part in parts]
    messages = [change.message for change in changes]
    report.counts.update(each.decision for each in applied)
    for committed_at_us in (change.committed_at_us for change in changes):
        report.commit(committed_at_us)
    for message in messages:
        partition = f"{message.topic}/{message.partition}"
        # Documents are written in no order of the log.
        report.positions[partition] = max(message.offset, report.positions.get(partition, -1))

    report.latencies("detect", [each.detected_at_us - each.committed_at_us for each in changes])
    report.latencies("publish", [each.message.appended_at_us - each.detected_at_us for each in changes])
    report.latencies(
        "log", [each.received_at_us + clock_offset_us - each.appended_at_us for each in messages]
    )
    report.latencies("route", [part.routed_at_us - part.change.message.received_at_us for part in parts])
    report.latencies("transform", [part.transformed_at_us - part.routed_at_us for part in parts])
    report.latencies("window", [each.stamps.started_at_us - each.part.transformed_at_us for each in applied])
    for stamps, count in Counter(each.stamps for each in applied).items():
        report.latency("resolve", stamps.resolved_at_us - stamps.started_at_us, count)
        report.latency("validate", stamps.validated_at_us - stamps.resolved_at_us, count)
        report.latency("deliver", stamps.delivered_at_us - stamps.validated_at_us, count)
    report.latencies(
        "invalidate", [item.invalidated_at_us - item.applied.stamps.delivered_at_us for item in items]
    )
    report.latencies("confirm", [now_us - item.invalidated_at_us for item in items])
    report.latencies(
        END_TO_END.name,
        [
            each.stamps.delivered_at_us + clock_offset_us - each.part.change.committed_at_us
            for each in applied
        ],
    )
    return report


class Confirmation(DynamicSink[Invalidated | LaneWatermark]):
    """Confirms the changes of a flow that keeps a copy."""

    def __init__(
        self,
        flow: str,
        dsn: str,
        clock: Clock = system_clock_us,
        interval: timedelta = timedelta(seconds=1),
    ) -> None:
        self._flow = flow
        self._dsn = dsn
        self._clock = clock
        self._interval = interval

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Invalidated | LaneWatermark]:
        status = StatusWriter(self._flow, str(worker_index), self._dsn, self._clock, self._interval)
        return _Confirming(self._flow, status, self._clock)


class _Confirming(StatelessSinkPartition[Invalidated | LaneWatermark]):
    def __init__(self, flow: str, status: StatusWriter, clock: Clock) -> None:
        self._flow = flow
        self._status = status
        self._clock = clock
        self._lanes: dict[str, dict[str, int]] = {}

    def write_batch(self, items: list[Invalidated | LaneWatermark]) -> None:
        confirmed = []
        for item in items:
            if isinstance(item, LaneWatermark):
                self._lanes.setdefault(item.partition, {})[item.lane] = item.time_us
            else:
                confirmed.append(item)
        report = report_of(confirmed, self._clock(), self._status.clock_offset_us)
        for decision, count in report.counts.items():
            CHANGES_TOTAL.labels(self._flow, decision).inc(count)
        LATENCY.add(self._flow, report)
        # Of each partition, the time up to which every lane of this worker has brought it into the copy.
        watermarks = {partition: min(lanes.values()) for partition, lanes in self._lanes.items()}
        self._status.add(report, watermarks)

    def close(self) -> None:
        self._status.close()


class RelayConfirmation(DynamicSink[Publication]):
    """Confirms what the relay published."""

    def __init__(
        self,
        flow: str,
        dsn: str,
        clock: Clock = system_clock_us,
        interval: timedelta = timedelta(seconds=1),
    ) -> None:
        self._flow = flow
        self._dsn = dsn
        self._clock = clock
        self._interval = interval

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Publication]:
        status = StatusWriter(self._flow, str(worker_index), self._dsn, self._clock, self._interval)
        return _ConfirmingRelay(self._flow, status)


class _ConfirmingRelay(StatelessSinkPartition[Publication]):
    def __init__(self, flow: str, status: StatusWriter) -> None:
        self._flow = flow
        self._status = status

    def write_batch(self, items: list[Publication]) -> None:
        report, watermarks = Report(), {}
        offset_us = self._status.clock_offset_us
        for batch, refused, error, published_at_us in items:
            if error is not None:
                continue
            report.counts["published"] += len(batch.rows) - len(refused)
            report.counts["refused"] += len(refused)
            for row in batch.rows:
                committed_at_us = row.committed_at_us or row.occurred_at_us
                report.commit(committed_at_us)
                report.latency("detect", batch.read_at_us - committed_at_us)
                report.latency("publish", published_at_us + offset_us - batch.read_at_us)
            if batch.rows:
                report.positions[f"{batch.schema}.outbox"] = batch.rows[-1].seq
            if batch.watermark_us is not None:
                watermarks[f"{batch.schema}.outbox"] = batch.watermark_us
        LATENCY.add(self._flow, report)
        self._status.add(report, watermarks)

    def close(self) -> None:
        self._status.close()
