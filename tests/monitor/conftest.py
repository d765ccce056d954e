"""A corner of the servers for the tests of monitoring, and a shop in it that is empty before each test."""

from collections.abc import Iterator

import psycopg
import pytest
from elasticsearch import Elasticsearch

from sinks.postgres import install_sync_schema
from syncline.settings import Settings
from tests.monitor.shop import Shop
from tests.monitor.waiting_room import WaitingRoom
from tests.own import own_database, own_settings


@pytest.fixture(scope="package")
def own(settings: Settings) -> Iterator[Settings]:
    with own_settings(settings, "monitor", redis_database=12) as own:
        yield own


@pytest.fixture(scope="package")
def connection(own: Settings) -> Iterator[psycopg.Connection]:
    with psycopg.connect(own.postgres_dsn.get_secret_value(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def shop(own: Settings, connection: psycopg.Connection) -> Iterator[Shop]:
    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        shop = Shop(connection, client, own.search_alias)
        yield shop
        shop.empty()


@pytest.fixture(scope="module")
def dsn(settings: Settings, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the module's own with nothing but the schema ``sync``."""
    name = request.module.__name__.rpartition(".")[2]
    with own_database(settings.postgres_dsn.get_secret_value(), f"own_{name}") as dsn:
        install_sync_schema(dsn)
        yield dsn


@pytest.fixture
def room(dsn: str) -> Iterator[WaitingRoom]:
    with WaitingRoom(dsn) as room:
        yield room
