"""The log that the sources read."""

import pytest

from syncline.settings import Settings
from tests.log import Log


@pytest.fixture(scope="session")
def log(settings: Settings) -> Log:
    return Log(settings.kafka_bootstrap_servers)
