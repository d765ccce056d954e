"""The services' tables and outboxes, in memory: what the shop commits, as the relay publishes it.

For changes by the hundred thousand without the time that a database takes to commit them. It does what the
triggers of ``services/sql`` do: compared over thousands of transactions, payloads are the same to the byte,
but for their times and the order of the rows of one statement, which SQL leaves open.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from syncline.model import envelope
from syncline.model.message import Message, Record
from syncline.policies.ownership import EntityPolicy
from syncline.policies.reading import load_policies
from syncline.services.workload import Statement, Transaction

Row = dict[str, Any]

_POLICIES: Mapping[str, EntityPolicy] = {policy.type: policy for policy in load_policies().entities}
_BEGINNING_US = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC. Time goes on by a millisecond with each change: the same seed, the same bytes."""


class Committed(NamedTuple):
    """One change as its outbox holds it."""

    policy: EntityPolicy
    id: str
    type: str
    version: int
    row: Row
    at_us: int

    @property
    def sku(self) -> str:
        sku: str = self.row["sku"]
        return sku


class Ledger:
    """Tables and sequences. ``keeps_rows`` off, it knows no row again: for rows that are only created."""

    def __init__(self, *, keeps_rows: bool = True) -> None:
        self.versions: Counter[str] = Counter()
        """The last version of each schema."""
        self._rows: dict[tuple[str, str], Row] = {}
        self._keeps_rows = keeps_rows
        self._now_us = _BEGINNING_US

    def commit(self, transactions: Iterable[Transaction]) -> Iterator[Committed]:
        for transaction in transactions:
            for statement in transaction.statements:
                for given in statement.rows:
                    yield from self._execute(statement, given)

    def _execute(self, statement: Statement, given: Mapping[str, Any]) -> Iterator[Committed]:
        policy = _POLICIES[statement.entity]
        id_ = _entity_id(policy, given)
        key = (statement.entity, id_)
        known = self._rows.get(key)
        row = _WRITES[statement.name](known, given)
        if row is None:
            return
        self._now_us += 1_000
        if statement.op == "delete":
            self._rows.pop(key, None)
            yield Committed(policy, id_, "deleted", row.pop("version"), row, self._now_us)
            return
        self.versions[policy.owner] += 1
        version = self.versions[policy.owner]
        row |= {"updated_at": _time(self._now_us)}
        if self._keeps_rows:
            self._rows[key] = row | {"version": version}
        yield Committed(policy, id_, "updated" if known else "created", version, row, self._now_us)


def _put(_known: Row | None, given: Mapping[str, Any]) -> Row:
    row = dict(given)
    for column in ("list_amount", "sale_amount"):
        if row.get(column) is not None:
            row[column] = f"{Decimal(row[column]):.4f}"
    for column in ("valid_from", "valid_to"):
        if row.get(column) is not None:
            row[column] = _time(int(datetime.fromisoformat(row[column]).timestamp() * 1_000_000))
    return row


def _edit(known: Row | None, given: Mapping[str, Any]) -> Row | None:
    if known is None:
        return None
    changed = {column: value for column, value in given.items() if value is not None}
    attributes = (known["attributes"] or {}) | changed.pop("attributes", {})
    return _without_version(known) | changed | {"attributes": attributes}


def _move(known: Row | None, given: Mapping[str, Any]) -> Row | None:
    if known is None:
        return None
    on_hand = max(0, known["on_hand"] + given["on_hand"])
    reserved = min(on_hand, max(0, known["reserved"] + given["reserved"]))
    return _without_version(known) | {"on_hand": on_hand, "reserved": reserved}


def _delete(known: Row | None, given: Mapping[str, Any]) -> Row | None:
    return None if known is None else {column: known[column] for column in (*given, "version")}


def _without_version(row: Row) -> Row:
    return {column: value for column, value in row.items() if column != "version"}


_WRITES: Mapping[str, Callable[[Row | None, Mapping[str, Any]], Row | None]] = {
    "put_product": _put,
    "put_price": _put,
    "put_stock": _put,
    "edit_product": _edit,
    "move_stock": _move,
    "delete_product": _delete,
    "delete_price": _delete,
    "delete_stock": _delete,
}
"""By the statement's name: the row that it leaves, given the row that there is."""


def _entity_id(policy: EntityPolicy, row: Mapping[str, Any]) -> str:
    return f"{row[policy.slot_column]}:{row['sku']}" if policy.slot_column else str(row["sku"])


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def record(change: Committed, topic_prefix: str) -> Record:
    """The change in the relay's form (``sources/outbox_queue.py``)."""
    policy = change.policy
    payload = {
        "entity": f"{policy.type}:{change.id}",
        "op": "delete" if change.type == "deleted" else "upsert",
        "version": change.version,
        "fields": change.row,
    }
    headers: dict[str, str] = {
        envelope.EVENT_ID: str(UUID(int=change.version)),
        envelope.EVENT_TYPE: change.type,
        envelope.COMMITTED_AT_US: str(change.at_us),
        envelope.COMMIT_TIME_IS_ESTIMATED: "0",
        envelope.DETECTED_AT_US: str(change.at_us + 2_000),
        envelope.GENERATION: "1",
        envelope.SEQUENCE: str(change.version),
        envelope.TENURE: "1000",
    }
    return Record(
        policy.topic(topic_prefix),
        change.sku.encode(),
        jsonb(payload).encode(),
        tuple((name, value.encode()) for name, value in headers.items()),
    )


def jsonb(value: object) -> str:
    """JSON as PostgreSQL prints ``jsonb``: spaces after separators, short keys before long ones."""
    return json.dumps(_in_order(value), ensure_ascii=False)


def _in_order(value: object) -> object:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _in_order(value[key]) for key in keys}
    return value


def as_read(records: Iterable[Record], read_at_us: int) -> Iterator[Message]:
    """The records as a flow gets them, all from one partition."""
    for offset, (topic, key, value, headers, _) in enumerate(records):
        yield Message(topic, 0, offset, key, value, headers, read_at_us, read_at_us)
