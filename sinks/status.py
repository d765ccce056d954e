"""Rows of ``sync.status``: what a worker of a flow did, for about every second of the last day.

Fire and forget: a row that cannot be written now is merged into the next one, and the flow never waits.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog

from sinks.postgres import PostgresWriter
from syncline.clock import Clock
from syncline.model.errors import FatalError, SynclineError, TransientError
from syncline.model.latency import LatencyHistogram

_log = structlog.get_logger()

CALIBRATE_EVERY = timedelta(minutes=1)
LAST_REPORT_SECONDS = 1.0
"""How long the end of a worker waits for the server to take its last row."""


@dataclass(slots=True)
class Report:
    """What a worker did since the report before."""

    counts: Counter[str] = field(default_factory=Counter)
    oldest_commit_us: int | None = None
    newest_commit_us: int | None = None
    positions: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, LatencyHistogram] = field(default_factory=dict)

    def commits(self, oldest_us: int, newest_us: int) -> None:
        """Take in changes that were committed between these times."""
        if self.oldest_commit_us is None or oldest_us < self.oldest_commit_us:
            self.oldest_commit_us = oldest_us
        if self.newest_commit_us is None or newest_us > self.newest_commit_us:
            self.newest_commit_us = newest_us

    def positions_reached(self, positions: Mapping[str, int]) -> None:
        for partition, position in positions.items():
            self.positions[partition] = max(position, self.positions.get(partition, -1))

    def latency(self, step: str, latency_us: int, count: int = 1) -> None:
        """Record it for so many changes, which share it."""
        self._histogram(step).record(latency_us / 1000, count)

    def latencies(self, step: str, latencies_us: Collection[int]) -> None:
        """Record one for each change."""
        self._histogram(step).record_each(latencies_us)

    def _histogram(self, step: str) -> LatencyHistogram:
        histogram = self.histograms.get(step)
        if histogram is None:
            histogram = self.histograms[step] = LatencyHistogram()
        return histogram

    def merge(self, later: "Report") -> None:
        self.counts.update(later.counts)
        if later.oldest_commit_us is not None and later.newest_commit_us is not None:
            self.commits(later.oldest_commit_us, later.newest_commit_us)
        self.positions_reached(later.positions)
        for step, histogram in later.histograms.items():
            self._histogram(step).merge(histogram)


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
        """Write what is left, and say that the worker has stopped; a server that hangs is not waited for."""
        if self._is_over():
            self._start_writing("stopped")
            self._is_over()
        self._thread.shutdown()
        self._writer.close()

    def _is_over(self) -> bool:
        """Whether what is under way ended soon, and not because the server was let go of."""
        done, _ = wait([self._under_way], LAST_REPORT_SECONDS)
        if not done:
            self._writer.let_go()
        return bool(done)

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
