"""Documents in a PostgreSQL table with a column for each field, each written by compare-and-set.

Source: PostgreSQL documentation, "Read Committed Isolation Level": an update that had to wait for another one
looks at its condition again, so of two writes on one revision the second finds it gone.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import errors

from sinks import sql
from sinks.postgres import STATEMENT_MAX_BYTES
from syncline.asking import Asking
from syncline.model.store import Outcome, StoredDocument, Token, Write, WriteResult
from syncline.postgres import Connection, connect, raise_typed
from syncline.statements import named_statements, statement
from syncline.stopping import Stop

LOCK_TIMEOUT_MS = 100
"""All of a batch waits so long for a row that somebody else has locked: longer than a rival writer takes."""

_STATEMENTS = named_statements(sql, "customer_documents")
_TABLE = "profiles.customer_documents"
_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
)
"""A document in the statement is at fault, and the server says so of the statement as a whole."""
_IN_THE_WAY = (errors.LockNotAvailable, errors.DeadlockDetected)
"""Somebody else holds a row of the statement, or the table as a whole."""
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""PostgreSQL reads others too, but an id that it gives back in another form is another id to its writer."""


class PostgresStore:
    """The :class:`~syncline.model.store.Store` over ``profiles.customer_documents``. Thread-safe.

    A call has a connection to itself, opened where none is idle. Where there is a stop the store lets go of
    a statement that is not answered. What that wrote may still be taken: at most once, being compared with
    what was read, and the next start finds it.
    """

    def __init__(self, dsn: str, application_name: str, stop: Stop | None = None) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._asking = None if stop is None else Asking(stop)
        self._idle: list[Connection] = []

    def close(self) -> None:
        if self._asking is not None:
            self._asking.close()
        self._close_idle()

    def identity(self) -> str:
        """The database cluster, and in it the OIDs of the database and the table."""
        [(identity,)] = self._ask("identity", "looking at")
        return str(identity)

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        ids = [id_ for id_ in document_ids if _CANONICAL_UUID.fullmatch(id_)]
        if not ids:
            return {}
        return {
            id_: StoredDocument(body.encode(), Token(revision, table_oid))
            for id_, body, revision, table_oid in self._ask("read", "reading", ids)
        }

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        fitting = [write for write in writes if _CANONICAL_UUID.fullmatch(write.document_id)]
        results = dict(zip((write.document_id for write in fitting), self._write(fitting), strict=True))
        return [
            results[id_]
            if id_ in results
            else WriteResult(Outcome.REFUSED, reason=f"id: {id_!r} is no UUID in lower case with hyphens")
            for id_, _, _ in writes
        ]

    def refresh(self) -> None:
        """Nothing to do: a query sees what was committed before it."""

    def _write(self, writes: Sequence[Write]) -> list[WriteResult]:
        """Write in one statement; what is too much for one, or refused as a whole, in two."""
        if not writes:
            return []
        array = b"[" + b",".join(map(_element, writes)) + b"]"
        if len(writes) > 1 and len(array) > STATEMENT_MAX_BYTES:
            return self._write_halves(writes)
        try:
            taken = self._answer_of("write", array.decode())
        except _REFUSALS as error:
            if len(writes) > 1:
                return self._write_halves(writes)
            return [WriteResult(Outcome.REFUSED, reason=_reason(error))]
        except _IN_THE_WAY as error:
            return self._write_around_locks(writes, _reason(error))
        except psycopg.Error as error:
            raise_typed(error, f"writing {_TABLE}")
        tokens = {id_: Token(revision, table_oid) for id_, revision, table_oid in taken}
        return [
            WriteResult(Outcome.WRITTEN, token)
            if (token := tokens.get(write.document_id)) is not None
            else WriteResult(Outcome.ALREADY_NEWER)
            for write in writes
        ]

    def _write_around_locks(self, writes: Sequence[Write], reason: str) -> list[WriteResult]:
        """Leave out the rows that are locked now. Raises ``Unavailable`` where the whole table is.

        A row that somebody has created and not committed yet is seen by nobody, so it is found by halves.
        """
        ids = [write.document_id for write in writes if write.expected is not None]
        locked = {document_id for (document_id,) in self._ask("locked", "waiting for", ids, ids)}
        if not locked and len(writes) > 1:
            return self._write_halves(writes)
        if not locked:
            return [WriteResult(Outcome.LOCKED, reason=reason)]
        free = iter(self._write([write for write in writes if write.document_id not in locked]))
        return [
            WriteResult(Outcome.LOCKED, reason=reason) if write.document_id in locked else next(free)
            for write in writes
        ]

    def _write_halves(self, writes: Sequence[Write]) -> list[WriteResult]:
        middle = len(writes) // 2
        return self._write(writes[:middle]) + self._write(writes[middle:])

    def _ask(self, name: str, doing: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            return self._answer_of(name, *parameters)
        except psycopg.Error as error:
            raise_typed(error, f"{doing} {_TABLE}")

    def _answer_of(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        run = partial(self._run, _STATEMENTS[name], parameters)
        return run() if self._asking is None else self._asking(run)

    def _run(self, query: bytes, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        connection = self._take()
        try:
            return connection.execute(query, parameters).fetchall()
        finally:
            if connection.closed:
                # The others are likely to have been lost with it.
                self._close_idle()
            else:
                self._idle.append(connection)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            connection = connect(self._dsn, self._application_name)
            connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}".encode())
            return connection

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


def _element(write: Write) -> bytes:
    """The write as an element of a JSON array, its body as it is."""
    revision, table_oid = (b"null", b"null") if write.expected is None else map(_number, write.expected)
    return b'{"id":"%b","revision":%b,"table_oid":%b,"body":%b}' % (
        write.document_id.encode(),
        revision,
        table_oid,
        write.body,
    )


def _number(value: int) -> bytes:
    return b"%d" % value


def _reason(error: psycopg.Error) -> str:
    """The server's own words; of a constraint's, without the detail, which is all of the row."""
    said = error.diag.message_primary or str(error)
    detail = None if isinstance(error, psycopg.IntegrityError) else error.diag.message_detail
    return f"{said}: {detail}" if detail else said


def install_profiles(dsn: str) -> None:
    """Create the table of profiles and its view, or bring them up to date."""
    with connect(dsn) as connection:
        try:
            connection.execute(statement(sql, "profiles"))
        except psycopg.Error as error:
            raise_typed(error, "creating the schema profiles")
