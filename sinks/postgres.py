"""Rows into PostgreSQL: one statement a batch, which unpacks one JSON array.

This is the fastest way in for batches of this size, and the lightest on the client.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from socket import SHUT_RDWR, socket
from typing import Any, TypeVar

import bytewax.operators as op
import orjson
import psycopg
from bytewax.dataflow import Stream, operator
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from sinks import sql
from syncline.asking import Asking
from syncline.circuit import Circuit
from syncline.postgres import Connection, connect, raise_typed
from syncline.statements import statement

Row = Mapping[str, Any]

STATEMENT_MAX_BYTES = 32 * 1024 * 1024
"""PostgreSQL takes no JSON array of 256 MiB and no parameter of 1 GiB."""


class PostgresWriter:
    """Runs one statement for batches of rows; connects at the first one, and again after a failure."""

    def __init__(self, dsn: str, statement_name: str, application_name: str) -> None:
        self._dsn = dsn
        self._statement = statement(sql, statement_name)
        self.doing = f"writing to sync.{statement_name}"
        self._application_name = application_name
        self._connection: Connection | None = None

    def write(self, rows: Sequence[Row]) -> None:
        """Write all rows in one transaction. Raises ``Unavailable`` or a ``FatalError``."""
        try:
            connection = self.connect()
            with connection.transaction():
                for array in _arrays(rows):
                    connection.execute(self._statement, (array.decode(),))
        except psycopg.Error as error:
            self.close()
            raise_typed(error, self.doing)

    def time_us(self) -> int:
        """The database's clock, in microseconds since the epoch."""
        try:
            [(time_us,)] = (
                self.connect()
                .execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                .fetchall()
            )
        except psycopg.Error as error:
            self.close()
            raise_typed(error, "asking PostgreSQL for the time")
        return int(time_us)

    def connect(self) -> Connection:
        """The connection, opened where there is none."""
        if self._connection is None:
            self._connection = connect(self._dsn, self._application_name)
        return self._connection

    def let_go(self) -> None:
        """Cut the connection under a statement that is not answered: whoever waits for it gets an error."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with socket(fileno=os.dup(connection.fileno())) as wire:
                wire.shutdown(SHUT_RDWR)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _arrays(rows: Sequence[Row]) -> Iterator[bytes]:
    """The rows as JSON arrays that PostgreSQL takes: raw messages of many megabytes may be in them."""
    array: list[bytes] = []
    size_bytes = 0
    for row in map(orjson.dumps, rows):
        if array and size_bytes + len(row) > STATEMENT_MAX_BYTES:
            yield b"[" + b",".join(array) + b"]"
            array, size_bytes = [], 0
        array.append(row)
        size_bytes += len(row)
    yield b"[" + b",".join(array) + b"]"


X = TypeVar("X")

_ONLY_PART = "postgres"


class PostgresSink(FixedPartitionedSink[X, None]):
    """Writes each item as a row, and holds the flow's place while it cannot: nothing is dropped. A stop lets
    go of a server that hangs.

    A partitioned sink, since recovery waits for its writes; it holds nothing between them.
    """

    def __init__(self, writer: PostgresWriter, row: Callable[[X], Row], circuit: Circuit) -> None:
        self._writer = writer
        self._row = row
        self._hold_place = circuit.hold_place(writer.doing)
        self._asking = Asking(circuit.stop)

    def list_parts(self) -> list[str]:
        return [_ONLY_PART]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSinkPartition[X, None]:
        return _Partition(self)

    def write(self, items: Iterable[X]) -> None:
        rows = [self._row(item) for item in items]
        self._hold_place(self._asking, partial(self._writer.write, rows))

    def close(self) -> None:
        self._asking.close()
        self._writer.close()


class _Partition(StatefulSinkPartition[X, None]):
    def __init__(self, sink: PostgresSink[X]) -> None:
        self._sink = sink

    def write_batch(self, values: list[X]) -> None:
        self._sink.write(values)

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._sink.close()


@operator
def write_rows(step_id: str, up: Stream[X], sink: PostgresSink[X]) -> None:
    """End a stream in rows."""
    op.output("output", op.map("key", up, lambda item: (_ONLY_PART, item)), sink)


def install_sync_schema(dsn: str) -> None:
    """Create Syncline's own schema, or bring it up to date."""
    with connect(dsn) as connection:
        try:
            connection.execute(statement(sql, "schema"))
        except psycopg.Error as error:
            raise_typed(error, "creating the schema sync")
