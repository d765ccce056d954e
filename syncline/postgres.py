"""Connections to PostgreSQL, with failures told by class.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg
from psycopg import errors

from syncline.model.errors import BadCredentials, FatalError, MissingResource, Unavailable

CONNECT_TIMEOUT_SECONDS = 10
LOST_AFTER_MS = 10_000
"""What was sent and not even received for so long tells that the connection is lost."""

Connection = psycopg.Connection[tuple[Any, ...]]

_DENIED = (errors.InvalidAuthorizationSpecification, errors.InvalidPassword, errors.InsufficientPrivilege)
_MISSING = (
    errors.UndefinedTable,
    errors.InvalidSchemaName,
    errors.InvalidCatalogName,
    errors.UndefinedColumn,
)


def connect(dsn: str, application_name: str = "syncline") -> Connection:
    """Open a connection that commits each statement by itself, unless told to make a transaction.

    libpq gives no code for a failed log-in. A server that never asked for our password is only away; one that
    got it and then closed the connection has refused it, unless it was the connection that broke. So it is
    asked twice.
    """
    try:
        return _open(dsn, application_name)
    except BadCredentials:
        return _open(dsn, application_name)


def _open(dsn: str, application_name: str) -> Connection:
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            tcp_user_timeout=LOST_AFTER_MS,
            application_name=application_name,
        )
    except psycopg.ProgrammingError as error:
        raise BadCredentials(f"this is no connection string of PostgreSQL: {_in_a_line(error)}") from error
    except psycopg.OperationalError as error:
        attempt = error.pgconn
        if attempt is not None and (attempt.needs_password or attempt.used_password):
            raise BadCredentials(f"PostgreSQL refuses the log-in: {_in_a_line(error)}") from error
        raise Unavailable(f"PostgreSQL does not answer: {_in_a_line(error)}") from error


@contextmanager
def transaction(dsn: str, application_name: str, doing: str) -> Iterator[Connection]:
    """A connection for one transaction; what the server says against it is raised by class."""
    try:
        with connect(dsn, application_name) as connection, connection.transaction():
            yield connection
    except psycopg.Error as error:
        raise_typed(error, doing)


def raise_typed(error: psycopg.Error, doing: str) -> NoReturn:
    """Raise the error of Syncline's tree that stands for the driver's."""
    text = f"{doing}: {error.diag.message_primary or _in_a_line(error)}"
    if isinstance(error, _DENIED):
        raise BadCredentials(text) from error
    if isinstance(error, _MISSING):
        raise MissingResource(f"{text}; run: syncline setup") from error
    if isinstance(error, errors.ProgramLimitExceeded):
        raise FatalError(text) from error
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        raise Unavailable(text) from error
    raise FatalError(text) from error


def _in_a_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
