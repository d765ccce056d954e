"""The shop at work: what the workload makes up, committed by the services at a given rate.

Each service writes as its own role, through its own connections.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from syncline.services.connection import connect_as, errors_by_class
from syncline.services.lanes import STATEMENTS, Lanes
from syncline.services.pace import WAITING_TRANSACTIONS, Pace, Progress, Summary, commit_at_pace
from syncline.services.workload import Mix, Offer, Workload, merged
from syncline.stopping import Stop

_PRODUCTS_A_STATEMENT = 200
_WAITING_STATEMENTS = 4


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
        pace = Pace(on_progress)
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
        """Commit ``rate`` changes a second; ``commit_at_pace`` says until when."""
        self._look_at_what_is_there()
        return commit_at_pace(
            Lanes(self._dsns, WAITING_TRANSACTIONS),
            self._happenings,
            rate,
            seconds,
            changes,
            on_progress,
            stop,
        )

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
