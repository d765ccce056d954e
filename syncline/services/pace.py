"""Committing at a given rate, and telling of it.

The pace is an open loop: every transaction has a due time that no slow moment moves, so what falls behind is
caught up, and a delay is not hidden by waiting for it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from syncline.model.errors import Misconfigured
from syncline.services.lanes import Lanes
from syncline.services.workload import Transaction
from syncline.stopping import Stop

WAITING_TRANSACTIONS = 1_000
_TICK_SECONDS = 0.001
_PROGRESS_SECONDS = 0.5
_CATCH_UP_SHARE = 0.25


@dataclass(frozen=True)
class Progress:
    changes: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """What was committed."""

    changes_by_kind: Mapping[tuple[str, str], int]
    """By entity type and op (``upsert``, ``delete``)."""
    transactions: int
    """Commits: fewer than the workload's transactions, where some were caught up together."""
    seconds: float

    @property
    def changes(self) -> int:
        return sum(self.changes_by_kind.values())

    @property
    def rate(self) -> float:
        """Changes a second, as achieved."""
        return self.changes / self.seconds


class Pace:
    """The time since the start, and telling of it."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self._started = time.monotonic()
        self._on_progress = on_progress
        self._next_report = _PROGRESS_SECONDS

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def wait_until(self, due: float, lanes: Lanes) -> bool:
        """Wait for the due time, but not for long: answers whether it has come."""
        self.report(lanes)
        left = due - self.elapsed
        if left > _TICK_SECONDS:
            lanes.check()
            time.sleep(min(left, 0.05))
        return left <= 0.05

    def report(self, lanes: Lanes) -> None:
        if self._on_progress and self.elapsed >= self._next_report:
            self._next_report = self.elapsed + _PROGRESS_SECONDS
            self._on_progress(Progress(lanes.changes_so_far, self.elapsed))

    def summary(self, lanes: Lanes) -> Summary:
        return Summary(dict(sorted(lanes.changes.items())), lanes.transactions, self.elapsed)


def commit_at_pace(
    lanes: Lanes,
    transactions: Iterator[Transaction],
    rate: float,
    seconds: float | None = None,
    changes: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Stop | None = None,
) -> Summary:
    """Commit ``rate`` changes a second, for so long or so many, whichever ends first, or until ``stop``.

    A transaction is never cut, so a few changes more may come. Databases that cannot keep the pace get
    a quarter of the time on top to catch up; the summary tells the rate that was achieved.
    """
    if not rate > 0:
        raise Misconfigured(f"rate: {rate} is no rate; it must be more than 0 changes a second.")
    planned = min(math.inf if changes is None else changes, math.inf if seconds is None else rate * seconds)
    latest = math.inf if seconds is None else seconds * (1 + _CATCH_UP_SHARE)
    pace = Pace(on_progress)
    scheduled = 0
    with lanes:
        while scheduled < planned and pace.elapsed < latest and not (stop and stop.requested):
            if pace.wait_until(scheduled / rate, lanes):
                transaction = next(transactions)
                lanes.put(transaction)
                scheduled += transaction.size
    return pace.summary(lanes)
