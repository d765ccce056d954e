"""A corner of the servers for all tests of the sinks."""

from collections.abc import Iterator

import pytest

from syncline.settings import Settings
from tests.log import Log
from tests.own import own_settings


@pytest.fixture(scope="package")
def own(settings: Settings) -> Iterator[Settings]:
    with own_settings(settings, "sinks", redis_database=5) as own:
        yield own


@pytest.fixture(scope="session")
def log(settings: Settings) -> Log:
    return Log(settings.kafka_bootstrap_servers)
