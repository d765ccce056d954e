"""What a person does about changes that a store could not take for now: look, send again at once, discard.

Each act is one transaction over the entry's row, which says who did what. The relay sends what is due.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from syncline.kafka import LARGEST_CARRIED_BYTES
from syncline.model.errors import NotPossible
from syncline.monitor import sql
from syncline.postgres import Connection, transaction
from syncline.statements import named_statements

ESCALATED, DISCARDED, ANY = "escalated", "discarded", "any"
_UNSETTLED = frozenset({"waiting", "sent", ESCALATED})
_LOCK = b" FOR UPDATE"
"""What acts on an entry keeps flow and relay from changing it meanwhile."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of ``sync.retries`` without the message itself."""

    id: int
    flow: str
    step: str
    state: str
    error: str
    reason: str
    entity: str
    version: list[int]
    turned_back: int
    """How often a store turned it back, since it came or since a person sent it again."""
    next_attempt_at: datetime
    topic: str
    partition: int
    offset: int
    size_bytes: int
    first_seen: datetime
    last_seen: datetime
    handled_by: str | None
    why: str | None
    handled_at: datetime | None
    ended_at: datetime | None


class Content(NamedTuple):
    """The message, raw."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | None]]
    """Values in hexadecimal."""


class RetryDesk:
    """Where a person sees to entries. Each method raises ``NotPossible``, and changes nothing, where what is
    asked cannot be done."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._statements = named_statements(sql, "retries_entries")

    def entries(
        self,
        flow: str | None = None,
        entity: str | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """``entity`` is a type or a whole key; without a ``state`` those that are not closed."""
        with self._transaction() as connection:
            return self._choose(connection, b"", flow=flow, entity=entity, state=state, limit=limit)

    def show(self, entry_id: int) -> tuple[Entry, Content]:
        with self._transaction() as connection:
            entry = self._entry(connection, entry_id, b"")
            [content] = connection.execute(self._statements["content"], {"id": entry_id}).fetchall()
            return entry, Content(*content)

    def retry(self, entry_id: int, by: str) -> None:
        """Send the entry again at once, and as often as at first if that does not help."""
        with self._transaction() as connection:
            entry = self._entry(connection, entry_id)
            _check_retry(entry)
            connection.execute(self._statements["retry"], {"ids": [entry.id], "by": by})

    def retry_all(self, by: str, flow: str | None = None, entity: str | None = None) -> int:
        """Send all that are escalated, as far as they can be sent; answers how many."""
        with self._transaction() as connection:
            found = self._choose(connection, _LOCK, flow=flow, entity=entity, state=ESCALATED)
            ids = [entry.id for entry in found if entry.size_bytes <= LARGEST_CARRIED_BYTES]
            connection.execute(self._statements["retry"], {"ids": ids, "by": by})
        return len(ids)

    def discard(self, entry_id: int, by: str, why: str) -> None:
        """Close the entry. What is on its way may still reach the copy."""
        with self._transaction() as connection:
            entry = self._entry(connection, entry_id)
            _check_unsettled(entry)
            connection.execute(self._statements["discard"], {"id": entry.id, "by": by, "why": why})

    def _transaction(self) -> AbstractContextManager[Connection]:
        return transaction(self._dsn, "syncline-retries", "working on sync.retries")

    def _choose(
        self,
        connection: Connection,
        lock: bytes,
        entry_id: int | None = None,
        flow: str | None = None,
        entity: str | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        wanted = {"id": entry_id, "flow": flow, "entity": entity, "state": state, "limit": limit}
        return [Entry(*row) for row in connection.execute(self._statements["choose"] + lock, wanted)]

    def _entry(self, connection: Connection, entry_id: int, lock: bytes = _LOCK) -> Entry:
        found = self._choose(connection, lock, entry_id, state=ANY)
        if not found:
            raise NotPossible(f"there is no entry {entry_id}; run: syncline retries list")
        return found[0]


def _check_unsettled(entry: Entry) -> None:
    if entry.state not in _UNSETTLED:
        by = f" by {entry.handled_by}: {entry.why}" if entry.state == DISCARDED else ""
        raise NotPossible(
            f"entry {entry.id} is {entry.state} already{by}; run: syncline retries show {entry.id}"
        )


def _check_retry(entry: Entry) -> None:
    _check_unsettled(entry)
    if entry.size_bytes > LARGEST_CARRIED_BYTES:
        raise NotPossible(
            f"entry {entry.id} has {entry.size_bytes:,} bytes, and what comes back carries at most "
            f"{LARGEST_CARRIED_BYTES:,}; its owner must write it again, and: "
            f"syncline retries discard {entry.id}"
        )
