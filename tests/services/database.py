"""What the tests of the services ask of a database."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

TABLES = {"catalog": "products", "pricing": "prices", "warehouse": "stock"}
"""Of the goods: one table a schema."""
WRITERS = ("storefront", "crm", "support")
"""Each writes the table of its name in the schema ``customers``."""


class Row(NamedTuple):
    """One row of an outbox."""

    aggregatetype: str
    aggregateid: str
    type: str
    version: int
    payload: dict[str, Any]

    @property
    def entity(self) -> str:
        entity: str = self.payload["entity"]
        return entity

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.payload["fields"]
        return fields


class Database:
    """A superuser's connection, which may act as each service, and a look at what it published."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._admin = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admin.close()

    def clear(self) -> None:
        """Empty the tables and the outboxes; versions go on."""
        for schema, table in (*TABLES.items(), *(("customers", writer) for writer in WRITERS)):
            self._admin.execute(f"DELETE FROM {schema}.{table}")
            self._admin.execute(f"DELETE FROM {schema}.outbox")

    def connect(self, service: str | None = None, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.dsn, autocommit=True)
        if service is not None:
            connection.execute(f"SET ROLE {service}")
        connection.autocommit = autocommit
        return connection

    def write(self, service: str, *statements: str) -> None:
        """Run each statement by itself, as the service."""
        with self.connect(service) as connection:
            for statement in statements:
                connection.execute(statement)

    def ask(self, query: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        return self._admin.execute(query, parameters).fetchall()

    def outbox(self, schema: str) -> list[Row]:
        """What the schema published, in order."""
        query = f"SELECT aggregatetype, aggregateid, type, version, payload FROM {schema}.outbox ORDER BY seq"
        return [Row(*row) for row in self.ask(query)]

    def story(self, schema: str) -> list[tuple[str, str]]:
        """Entity and type of what the schema published, in order."""
        return [(row.entity, row.type) for row in self.outbox(schema)]

    @contextmanager
    def blocked(
        self, connection: psycopg.Connection[Any], work: str | Callable[[], object]
    ) -> Iterator[None]:
        """Do the work, a statement or a call, in a thread; the body of the block runs once the connection
        waits for a lock, and must let it go."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                connection.execute(work.encode()) if isinstance(work, str) else work()
            except psycopg.Error as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
        deadline = time.monotonic() + 30
        while self.ask(query, (connection.info.backend_pid,)) != [("Lock",)]:
            assert time.monotonic() < deadline, "the work never waited for a lock"
        yield
        thread.join(30)
        assert not thread.is_alive(), "the work still waits"
        if errors:
            raise errors[0]
