"""Step 9: the record that changes are in the store, with the time that each step took.

What a worker confirmed becomes a row of ``sync.status`` and Prometheus' metrics.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from operator import attrgetter, sub
from typing import TypeVar

import structlog
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from sinks.freshness import Freshness
from sinks.metrics import CHANGES_TOTAL, LATENCY
from sinks.redis_invalidation import Invalidated
from sinks.status import Report, StatusWriter
from syncline.clock import Clock, system_clock_us
from syncline.model.decision import Applied, Stamps
from syncline.model.message import Message
from syncline.model.outbox import Publication
from syncline.model.steps import END_TO_END

_log = structlog.get_logger()


def report_of(items: Sequence[Invalidated], now_us: int, clock_offset_us: int) -> Report:
    """What batches of confirmed changes amount to.

    Times of the database and of this machine meet in two of the steps; there the offset evens them out.
    """
    report = Report()
    for decided, invalidated_at_us in items:
        changes_by_stamps: Counter[Stamps] = Counter()
        for applied in decided.applied:
            changes_by_stamps[applied.stamps] += len(applied.verdicts)
        for stamps, count in changes_by_stamps.items():
            report.latency("resolve", stamps.resolved_at_us - stamps.started_at_us, count)
            report.latency("validate", stamps.validated_at_us - stamps.resolved_at_us, count)
            report.latency("deliver", stamps.delivered_at_us - stamps.validated_at_us, count)
            report.latency("invalidate", invalidated_at_us - stamps.delivered_at_us, count)
            report.latency("confirm", now_us - invalidated_at_us, count)
        _report_changes(report, decided.applied, clock_offset_us)
    return report


def _report_changes(report: Report, documents: Sequence[Applied], clock_offset_us: int) -> None:
    """What differs from change to change."""
    verdicts = [verdict for applied in documents for verdict in applied.verdicts]
    if not verdicts:
        return
    decisions = [verdict.decision for verdict in verdicts]
    # Most batches are of one kind; to count them one by one hashes each.
    if decisions.count(decisions[0]) == len(decisions):
        report.counts[decisions[0]] += len(decisions)
    else:
        report.counts.update(decisions)
    changes = [verdict.part.change for verdict in verdicts]
    messages = [change.message for change in changes]
    report.positions_reached(_highest_offsets(messages))
    if any(map(attrgetter("replay_of"), changes)):
        documents = _without_replays(documents)
    _report_pace(report, documents, clock_offset_us)


def _without_replays(documents: Iterable[Applied]) -> list[Applied]:
    """How long a change lay in quarantine is no step's doing."""
    return [
        applied._replace(
            verdicts=[verdict for verdict in applied.verdicts if verdict.part.change.replay_of is None]
        )
        for applied in documents
    ]


def _report_pace(report: Report, documents: Sequence[Applied], clock_offset_us: int) -> None:
    """The times that each change took."""
    parts = [verdict.part for applied in documents for verdict in applied.verdicts]
    if not parts:
        return
    changes = [part.change for part in parts]
    messages = [change.message for change in changes]
    committed = [change.committed_at_us for change in changes]
    detected = [change.detected_at_us for change in changes]
    appended = [message.appended_at_us for message in messages]
    received = [message.received_at_us for message in messages]
    started = [applied.stamps.started_at_us for applied in documents for _ in applied.verdicts]
    delivered = [applied.stamps.delivered_at_us for applied in documents for _ in applied.verdicts]

    report.commits(min(committed), max(committed))
    report.latencies("detect", list(map(sub, detected, committed)))
    report.latencies("publish", list(map(sub, appended, detected)))
    report.latencies(
        "log", [to + clock_offset_us - since for to, since in zip(received, appended, strict=True)]
    )
    report.latencies(
        END_TO_END.name,
        [to + clock_offset_us - since for to, since in zip(delivered, committed, strict=True)],
    )
    batches = zip(
        received,
        [part.routed_at_us for part in parts],
        [part.transformed_at_us for part in parts],
        started,
        strict=True,
    )
    for (received_us, routed_us, transformed_us, started_us), count in Counter(batches).items():
        report.latency("route", routed_us - received_us, count)
        report.latency("transform", transformed_us - routed_us, count)
        report.latency("window", started_us - transformed_us, count)


def _highest_offsets(messages: Iterable[Message]) -> dict[str, int]:
    """By partition of the log; documents are written in no order of it."""
    highest: dict[tuple[str, int], int] = {}
    for message in messages:
        place, offset = (message.topic, message.partition), message.offset
        if offset > highest.get(place, -1):
            highest[place] = offset
    return {f"{topic}/{number}": offset for (topic, number), offset in highest.items()}


X = TypeVar("X")


class _StatusSink(DynamicSink[X]):
    def __init__(
        self,
        flow: str,
        dsn: str,
        *,
        clock: Clock = system_clock_us,
        interval: timedelta = timedelta(seconds=1),
    ) -> None:
        self._flow = flow
        self._dsn = dsn
        self._clock = clock
        self._interval = interval

    def _status(self, worker_index: int) -> StatusWriter:
        return StatusWriter(self._flow, str(worker_index), self._dsn, self._clock, self._interval)


class Confirmation(_StatusSink[Invalidated]):
    """Confirms the changes of a flow that keeps a copy."""

    def __init__(
        self,
        flow: str,
        dsn: str,
        freshness: Freshness | None = None,
        *,
        clock: Clock = system_clock_us,
        interval: timedelta = timedelta(seconds=1),
    ) -> None:
        super().__init__(flow, dsn, clock=clock, interval=interval)
        self._freshness = freshness

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Invalidated]:
        return _Confirming(self._flow, self._status(worker_index), self._freshness, self._clock)


class _Confirming(StatelessSinkPartition[Invalidated]):
    def __init__(self, flow: str, status: StatusWriter, freshness: Freshness | None, clock: Clock) -> None:
        self._flow = flow
        self._status = status
        self._freshness = freshness
        self._clock = clock
        self._lanes: dict[str, dict[str, int]] = {}

    def write_batch(self, items: list[Invalidated]) -> None:
        for item in items:
            for lane, partition, time_us in item.decided.watermarks:
                if self._freshness is not None:
                    self._freshness.reached(lane, partition, time_us)
                # Lanes are told of in the order of their names, which need not be that of time.
                lanes = self._lanes.setdefault(partition, {})
                lanes[lane] = max(time_us, lanes.get(lane, 0))
        report = report_of(items, self._clock(), self._status.clock_offset_us)
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
                report.commits(min(commits_us), max(commits_us))
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
