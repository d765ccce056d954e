"""``syncline setup`` as a person calls it."""

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner, Result

from syncline.console.setup import setup
from syncline.model.errors import Misconfigured
from syncline.services.schema import SCHEMAS, install
from syncline.settings import Settings
from tests.services.database import Database

app = typer.Typer()
app.command()(setup)


@pytest.fixture
def environment(own: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of this corner, whose services are as they were at the end."""
    for name, value in own.as_environment().items():
        monkeypatch.setenv(name, value)
    yield
    install(database.dsn)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def woken(database: Database) -> set[str]:
    """The services whose commits wake the relay. Syncline's own outbox always does."""
    rows = database.ask(
        "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'outbox_notify' AND tgenabled <> 'D'"
    )
    schemas = {table.partition(".")[0] for (table,) in rows}
    assert "sync" in schemas
    return schemas - {"sync"}


def test_notify_can_be_left_out_and_comes_back_without_the_option(
    environment: None, database: Database
) -> None:
    result = run("--services", "--no-notify")
    assert (result.exit_code, woken(database)) == (0, set()), result.output
    assert "with their outboxes without NOTIFY" in result.output
    result = run("--services")
    assert (result.exit_code, woken(database)) == (0, set(SCHEMAS)), result.output


def test_what_is_printed_is_what_would_be_done(environment: None, database: Database) -> None:
    switched_off = "DISABLE TRIGGER outbox_notify"
    assert switched_off in run("--print", "--services", "--no-notify").stdout
    assert switched_off not in run("--print", "--services").stdout
    assert "ON outbox" not in run("--print").stdout
    assert woken(database) == set(SCHEMAS)


def test_notify_is_the_services_affair(environment: None) -> None:
    assert isinstance(run("--no-notify").exception, Misconfigured)
