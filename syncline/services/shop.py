"""The shop at work: what the workload makes up, committed by the services at a given rate.

Each service writes as its own role, through its own connections. The pace is an open loop: every
transaction has a due time that no slow moment moves, so what falls behind is caught up, and a delay is
not hidden by waiting for it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from syncline.model.errors import Misconfigured
from syncline.services.connection import connect_as, errors_by_class
from syncline.services.lanes import STATEMENTS, Lanes
from syncline.services.workload import Mix, Offer, Workload, merged
from syncline.stopping import Stop

_PRODUCTS_A_STATEMENT = 200
_WAITING_STATEMENTS = 4
_WAITING_TRANSACTIONS = 1_000
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


class Shop:
    """Works on the products that there are, and makes more.

    The same seed on the same data writes the same rows, whatever the timing.
    """

    def __init__(self, dsns: Mapping[str, str], seed: int = 0, mix: Mix | None = None) -> None:
        self._dsns = dsns
        self._workload = Workload(Random(seed), mix or Mix())
        self._happenings = self._workload.transactions()
        self._has_looked = False

    def seed_products(self, count: int, on_progress: Callable[[Progress], None] | None = None) -> Summary:
        """Create so many products, with prices and stock, as fast as the databases take them."""
        self._look_at_what_is_there()
        pace = _Pace(on_progress)
        with Lanes(self._dsns, _WAITING_STATEMENTS) as lanes:
            for start in range(0, count, _PRODUCTS_A_STATEMENT):
                launches = range(min(_PRODUCTS_A_STATEMENT, count - start))
                for transaction in merged(part for _ in launches for part in self._workload.launch()):
                    lanes.put(transaction)
                pace.report(lanes)
        return pace.summary(lanes)

    def run(
        self,
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
        planned = min(
            math.inf if changes is None else changes, math.inf if seconds is None else rate * seconds
        )
        latest = math.inf if seconds is None else seconds * (1 + _CATCH_UP_SHARE)
        self._look_at_what_is_there()
        pace = _Pace(on_progress)
        scheduled = 0
        with Lanes(self._dsns, _WAITING_TRANSACTIONS) as lanes:
            while scheduled < planned and pace.elapsed < latest and not (stop and stop.requested):
                if pace.wait_until(scheduled / rate, lanes):
                    transaction = next(self._happenings)
                    lanes.put(transaction)
                    scheduled += transaction.size
        return pace.summary(lanes)

    def _look_at_what_is_there(self) -> None:
        if self._has_looked:
            return
        currencies: dict[str, list[str]] = dict(self._rows("pricing", "prices_there_are"))
        warehouses: dict[str, list[str]] = dict(self._rows("warehouse", "stock_there_is"))
        self._workload.know(
            (sku, Offer(tuple(currencies.get(sku, ())), tuple(warehouses.get(sku, ()))))
            for (sku,) in self._rows("catalog", "products_there_are")
        )
        self._has_looked = True

    def _rows(self, service: str, statement: str) -> list[tuple[Any, ...]]:
        with connect_as(self._dsns[service], service) as connection, errors_by_class():
            return connection.execute(STATEMENTS[statement]).fetchall()


class _Pace:
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
