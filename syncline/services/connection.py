"""Connections to the services' databases, with failures told by class."""

from typing import Any

import psycopg

from syncline.model.errors import BadCredentials, SourceUnavailable, SynclineError

CONNECT_TIMEOUT_SECONDS = 10


def connect(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection that commits each statement by itself, unless told to make a transaction."""
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
    except psycopg.OperationalError as error:
        raise _connection_error(error) from error


def _connection_error(error: psycopg.OperationalError) -> SynclineError:
    """A server that answered and asked for a password is there, and has refused us."""
    password_at_fault = error.pgconn is not None and (
        error.pgconn.needs_password or error.pgconn.used_password
    )
    return BadCredentials(str(error)) if password_at_fault else SourceUnavailable(str(error))
