"""Connections that act as one service, with what its database refuses told by class."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors, sql

from syncline.model.errors import BadCredentials, MissingResource, Refused, Unavailable
from syncline.postgres import Connection, connect


def connect_as(dsn: str, service: str) -> Connection:
    """Open a connection that may do what this service may, and no more."""
    connection = connect(dsn)
    try:
        with errors_by_class():
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(service)))
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def errors_by_class() -> Iterator[None]:
    """Raise what Postgres says as an error of Syncline; what has no class there is a bug and stays."""
    try:
        yield
    except (
        errors.InvalidSchemaName,
        errors.UndefinedTable,
        errors.UndefinedColumn,
        errors.UndefinedObject,
    ) as error:
        message = f"{error.diag.message_primary}. `syncline setup` creates the services' tables and roles."
        raise MissingResource(message) from error
    except errors.InsufficientPrivilege as error:
        raise BadCredentials(f"{error.diag.message_primary}.") from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise Refused(f"{error.diag.message_primary}. {error.diag.message_detail or ''}".rstrip()) from error
    except psycopg.OperationalError as error:
        raise Unavailable(str(error)) from error
