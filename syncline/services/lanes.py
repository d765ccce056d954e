"""Committing transactions side by side: one thread a lane, in order within each.

A lane has a connection for each service that writes in it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import groupby
from operator import attrgetter
from queue import Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Self

import orjson
import psycopg
from psycopg.errors import DeadlockDetected, SerializationFailure

from syncline.postgres import Connection
from syncline.services import sql
from syncline.services.connection import connect_as, errors_by_class
from syncline.services.customer_workload import WRITERS
from syncline.services.workload import LANES, Statement, Transaction, schema_of
from syncline.statements import named_statements

STATEMENTS = named_statements(sql, "shop") | {
    f"{name}_{writer}": text.replace(b"{writer}", writer.encode())
    for name, text in named_statements(sql, "customer_edits").items()
    for writer in WRITERS
}
_ATTEMPTS = 5
_LOOK_SECONDS = 0.1
_MOST_AT_ONCE = 20


def commit(connection: Connection, statements: Sequence[Statement]) -> list[int]:
    """Commit the statements together; answers the number of rows that each of them changed.

    A deadlock with someone else's transaction undoes all of it, so it is tried again.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(DeadlockDetected, SerializationFailure):
            return _commit(connection, statements)
    return _commit(connection, statements)


def _commit(connection: Connection, statements: Sequence[Statement]) -> list[int]:
    if len(statements) == 1:
        return [_execute(connection, statements[0]).rowcount]
    with connection.transaction(), connection.pipeline():
        cursors = [_execute(connection, statement) for statement in statements]
    return [cursor.rowcount for cursor in cursors]


def _execute(connection: Connection, statement: Statement) -> psycopg.Cursor[tuple[object, ...]]:
    return connection.execute(STATEMENTS[statement.name], [orjson.dumps(statement.rows).decode()])


def _connect(dsn: str, service: str) -> Connection:
    connection = connect_as(dsn, service)
    # The planner takes an array of JSON for 100 rows, and would scan a table for them.
    connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
    return connection


class Lanes:
    """The lanes while they run. Leaving the block waits for what was put in; an exception abandons it."""

    def __init__(self, dsns: Mapping[str, str], capacity: int, names: Iterable[str] = LANES) -> None:
        self._failed = Event()
        self._lanes = {lane: _Lane(dsns[schema_of(lane)], lane, capacity, self._failed) for lane in names}

    def __enter__(self) -> Self:
        for lane in self._lanes.values():
            lane.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._failed.set()
        for lane in self._lanes.values():
            lane.end()
        for lane in self._lanes.values():
            lane.join()
        if kind is None:
            self.check()

    def put(self, transaction: Transaction) -> None:
        """Hand a transaction over; waits while its lane is full."""
        lane = self._lanes[transaction.lane]
        while True:
            self.check()
            with suppress(Full):
                lane.queue.put(transaction, timeout=_LOOK_SECONDS)
                break

    def check(self) -> None:
        """Raise what ended a lane."""
        for lane in self._lanes.values():
            if lane.error is not None:
                raise lane.error

    @property
    def changes_so_far(self) -> int:
        return sum(lane.changes_so_far for lane in self._lanes.values())

    @property
    def changes(self) -> Counter[tuple[str, str]]:
        """Committed changes by entity and op; to be read after the block."""
        return sum((lane.changes for lane in self._lanes.values()), Counter())

    @property
    def transactions(self) -> int:
        return sum(lane.transactions for lane in self._lanes.values())


class _Lane(Thread):
    def __init__(self, dsn: str, name: str, capacity: int, failed: Event) -> None:
        super().__init__(name=name, daemon=True)
        self.queue: Queue[Transaction | None] = Queue(capacity)
        self.changes: Counter[tuple[str, str]] = Counter()
        self.changes_so_far = 0
        self.transactions = 0
        self.error: Exception | None = None
        self._ended = False
        self._dsn = dsn
        self._failed = failed

    def run(self) -> None:
        try:
            with ExitStack() as closing, errors_by_class():
                connections: dict[str, Connection] = {}
                while not self._failed.is_set() and (due := self._due()):
                    for service, transactions in groupby(due, attrgetter("service")):
                        if service not in connections:
                            connections[service] = closing.enter_context(_connect(self._dsn, service))
                        statements = [
                            statement for transaction in transactions for statement in transaction.statements
                        ]
                        self._count(statements, commit(connections[service], statements))
        except Exception as error:  # noqa: BLE001 - raised again by `check`, in the thread that waits
            self.error = error
            self._failed.set()

    def end(self) -> None:
        """Let the thread end after what stands in the queue, or at once if a lane has failed."""
        while self.is_alive():
            with suppress(Full):
                self.queue.put(None, timeout=_LOOK_SECONDS)
                break

    def _due(self) -> list[Transaction]:
        """What stands in the queue: waits for the first, and takes what else has fallen due meanwhile.

        So a lane that is behind catches up. Commits are what is slow: each waits for the disk, and with
        NOTIFY, which locks the whole database at commit, for every other lane's.
        """
        due: list[Transaction] = []
        while len(due) < _MOST_AT_ONCE and not self._ended:
            if due and self.queue.empty():
                break
            transaction = self.queue.get()
            if transaction is None:
                self._ended = True
            else:
                due.append(transaction)
        return due

    def _count(self, statements: Sequence[Statement], rows: Sequence[int]) -> None:
        self.transactions += 1
        for statement, count in zip(statements, rows, strict=True):
            self.changes[statement.entity, statement.op] += count
            self.changes_so_far += count
