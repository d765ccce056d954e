"""The log and the outboxes that the sources read."""

from collections.abc import Iterator

import pytest

from syncline.settings import Settings
from tests.log import Log
from tests.own import own_settings
from tests.services.database import Database


@pytest.fixture(scope="session")
def log(settings: Settings) -> Log:
    return Log(settings.kafka_bootstrap_servers)


@pytest.fixture(scope="package")
def own(settings: Settings) -> Iterator[Settings]:
    with own_settings(settings, "sources", redis_database=6) as own:
        yield own


@pytest.fixture
def database(own: Settings) -> Iterator[Database]:
    """The services' tables and outboxes, empty."""
    with Database(own.postgres_dsn.get_secret_value()) as database:
        database.clear()
        yield database
