"""The three services that write customers at work: what the workload makes up, committed at a given rate.

Each service writes as its own role, through its own connections.
"""

from collections.abc import Callable, Iterator
from random import Random

from syncline.services.connection import connect_as, errors_by_class
from syncline.services.customer_workload import (
    LANES,
    WRITERS,
    ConcurrentEdits,
    CustomerMix,
    CustomerRow,
    CustomerWorkload,
)
from syncline.services.lanes import STATEMENTS, Lanes
from syncline.services.pace import WAITING_TRANSACTIONS, Progress, Summary, commit_at_pace
from syncline.stopping import Stop

_SCHEMA = "customers"


class CustomerShop:
    """Works on the customers that there are, and gets more.

    The same seed on the same data writes the same rows, whatever the timing; their versions may differ, but
    not in their order for one customer. ``on_concurrent`` is told of each two concurrent edits.
    """

    def __init__(
        self,
        dsn: str,
        seed: int,
        on_concurrent: Callable[[ConcurrentEdits], None],
        mix: CustomerMix | None = None,
    ) -> None:
        self._dsn = dsn
        self._workload = CustomerWorkload(Random(seed), mix or CustomerMix(), on_concurrent)
        self._happenings = self._workload.transactions()
        self._has_looked = False

    def run(
        self,
        rate: float,
        seconds: float | None = None,
        changes: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        stop: Stop | None = None,
    ) -> Summary:
        """Commit ``rate`` changes a second; ``commit_at_pace`` says until when."""
        if not self._has_looked:
            self._workload.know(self._rows())
            self._has_looked = True
        lanes = Lanes({_SCHEMA: self._dsn}, WAITING_TRANSACTIONS, LANES)
        return commit_at_pace(lanes, self._happenings, rate, seconds, changes, on_progress, stop)

    def _rows(self) -> Iterator[CustomerRow]:
        for writer in WRITERS:
            with connect_as(self._dsn, writer) as connection, errors_by_class():
                rows = connection.execute(STATEMENTS[f"rows_there_are_{writer}"]).fetchall()
            for customer_id, fields, last_edit in rows:
                yield CustomerRow(customer_id, writer, fields, last_edit)
