"""A corner of the servers for all tests of processes."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from syncline.console.main import app
from syncline.settings import Settings
from tests.log import Log
from tests.own import own_settings
from tests.process.running import Command, Running
from tests.services.database import Database


@pytest.fixture(scope="package")
def own(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with own_settings(settings, "process", redis_database=7, home=tmp_path_factory.mktemp("process")) as own:
        yield own


@pytest.fixture(scope="session")
def log(settings: Settings) -> Log:
    return Log(settings.kafka_bootstrap_servers)


@pytest.fixture
def database(own: Settings) -> Iterator[Database]:
    """The services' tables and outboxes, and what Syncline wrote of its runs: all empty."""
    with Database(own.postgres_dsn.get_secret_value()) as database:
        database.clear()
        database._admin.execute("TRUNCATE sync.status, sync.health, sync.freshness, sync.quarantine")
        yield database


@pytest.fixture
def running(own: Settings, database: Database) -> Iterator[Running]:
    """Runs flows of this corner, and ends what still runs."""
    with Running(own) as running:
        yield running


@pytest.fixture
def command(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``syncline ...``, and what it said."""
    for name, value in own.as_environment().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run
