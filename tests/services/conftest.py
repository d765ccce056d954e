"""A database of its own for each test module, with the services installed."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import conninfo, sql

from syncline.services.schema import install
from syncline.settings import Settings
from tests.services.database import Database


@pytest.fixture(scope="module")
def empty_dsn(settings: Settings, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a database of this module's own, with nothing in it."""
    name = request.module.__name__.rpartition(".")[2]
    server = settings.postgres_dsn.get_secret_value()
    database = sql.Identifier(name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
        yield conninfo.make_conninfo(server, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@pytest.fixture(scope="module")
def dsn(empty_dsn: str) -> str:
    install(empty_dsn)
    return empty_dsn


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """The services' tables, empty."""
    with Database(dsn) as database:
        database.clear()
        yield database
