"""What is due of the retry queue goes on its road again: from ``sync.retries`` into ``sync.outbox``."""

import time
from datetime import timedelta

from prometheus_client import Gauge

from sources import sql
from syncline.postgres import Connection
from syncline.statements import statement

INTERVAL = timedelta(seconds=1)
LEASE = timedelta(minutes=15)
"""What was sent is sent again after so long, if nothing was heard of it. Neither the outbox nor the log loses
it, so that is for a topic that was deleted; and while a flow is away each lease adds a copy to the log."""
MOST_AT_ONCE = 500

ESCALATED = Gauge(
    "syncline_retries_escalated", "Changes that no retry got into a store: they wait for a person."
)


class DueRetries:
    """Looks at most once in ``INTERVAL``, on the connection of whoever relays ``sync.outbox``."""

    def __init__(self, lease: timedelta = LEASE) -> None:
        self._lease = lease
        self._statement = statement(sql, "retries_due")
        self._next_look = 0.0

    def send(self, connection: Connection) -> None:
        """Raises the driver's errors."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + INTERVAL.total_seconds()
        parameters = {"limit": MOST_AT_ONCE, "lease_seconds": self._lease.total_seconds()}
        [(escalated,)] = connection.execute(self._statement, parameters).fetchall()
        ESCALATED.set(escalated)
