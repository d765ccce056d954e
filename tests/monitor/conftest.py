"""A corner of the servers for the tests of monitoring, and a shop in it that is empty before each test."""

from collections.abc import Iterator

import psycopg
import pytest
from elasticsearch import Elasticsearch

from syncline.settings import Settings
from tests.monitor.shop import Shop
from tests.own import own_settings


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
