"""Step 9: the record that changes are in the store, with the time that each step took.

What a worker confirmed becomes a row of ``sync.status`` and Prometheus' metrics.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import structlog
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from sinks.metrics import CHANGES_TOTAL, LATENCY
from sinks.redis_invalidation import Invalidated
from sinks.status import Report, StatusWriter
from syncline.clock import Clock, system_clock_us
from syncline.model.decision import LaneWatermark
from syncline.model.outbox import Publication
from syncline.model.steps import END_TO_END

_log = structlog.get_logger()


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


X = TypeVar("X")


class _StatusSink(DynamicSink[X]):
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

    def _status(self, worker_index: int) -> StatusWriter:
        return StatusWriter(self._flow, str(worker_index), self._dsn, self._clock, self._interval)


class Confirmation(_StatusSink[Invalidated | LaneWatermark]):
    """Confirms the changes of a flow that keeps a copy."""

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Invalidated | LaneWatermark]:
        return _Confirming(self._flow, self._status(worker_index), self._clock)


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


class RelayConfirmation(_StatusSink[Publication]):
    """Confirms what the relay published."""

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Publication]:
        return _ConfirmingRelay(self._flow, self._status(worker_index))


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
            if batch.rows:
                report.counts["published"] += len(batch.rows) - len(refused)
                report.counts["refused"] += len(refused)
                commits_us = [row.committed_at_us or row.occurred_at_us for row in batch.rows]
                report.commit(min(commits_us))
                report.commit(max(commits_us))
                report.latencies(
                    "detect", [batch.read_at_us - committed_at_us for committed_at_us in commits_us]
                )
                publish_us = published_at_us + offset_us - batch.read_at_us
                report.latency("publish", publish_us, len(batch.rows))
                report.positions[f"{batch.schema}.outbox"] = batch.rows[-1].seq
            if batch.watermark_us is not None:
                watermarks[f"{batch.schema}.outbox"] = batch.watermark_us
        LATENCY.add(self._flow, report)
        self._status.add(report, watermarks)

    def close(self) -> None:
        self._status.close()
