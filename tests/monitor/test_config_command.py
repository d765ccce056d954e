"""``syncline config`` as a person calls it."""

import os
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from syncline.console.config import app
from syncline.settings import Settings, embedded_addresses_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no variables of Syncline's."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("SYNCLINE_")]:
        monkeypatch.delenv(variable)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_every_setting_is_shown_with_its_place_and_no_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = embedded_addresses_file(Path(".syncline"))
    addresses.parent.mkdir(parents=True)
    addresses.write_text('redis_url = "redis://:s3cret@h/0"\ntopic_prefix = "embedded"\n')
    (folder / "syncline.toml").write_text(
        'topic_prefix = "file"\n[notify_targets]\npricing = ["json://h/s3cret"]\n'
    )
    monkeypatch.setenv("SYNCLINE_GENERATION", "7")
    result = run("show", "--json")
    found = {line["name"]: (line["value"], line["place"]) for line in orjson.loads(result.stdout)}
    assert set(found) == set(Settings.model_fields)
    assert found["generation"] == ("7", "SYNCLINE_GENERATION")
    assert found["topic_prefix"] == ('"file"', "syncline.toml")
    assert found["redis_url"] == ('"**********"', ".syncline/stack/addresses.toml")
    assert found["notify_targets"] == ('{"pricing": ["**********"]}', "syncline.toml")
    assert found["topic_partitions"] == ("3", "default")
    assert "s3cret" not in result.stdout + run("show").stdout


def test_every_fault_is_named_with_its_place_and_what_would_be_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "syncline.toml").write_text(
        'postgres_dns = "postgresql://u:s3cret@h/d"\ntopic_partitions = 0\n'
    )
    monkeypatch.setenv("SYNCLINE_GENERATIONS", "7")
    monkeypatch.setenv("SYNCLINE_HEALTH_PORT", "70000")
    result = run("check")
    assert result.exit_code == 1
    assert sorted(result.stdout.splitlines()) == [
        "SYNCLINE_GENERATIONS: SYNCLINE_GENERATIONS is no setting; did you mean SYNCLINE_GENERATION?",
        "SYNCLINE_HEALTH_PORT: health_port: Input should be less than or equal to 65535",
        "syncline.toml: postgres_dns is no setting; did you mean postgres_dsn?",
        "syncline.toml: topic_partitions: Input should be greater than or equal to 1",
    ]


@pytest.mark.parametrize("secret", ["json://h/s3cret", '{"pricing": "json://h/s3cret"}'])
def test_a_variable_of_the_wrong_form_is_named(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("SYNCLINE_NOTIFY_TARGETS", secret)
    result = run("check")
    assert result.exit_code == 1
    assert "notify_targets" in result.stdout
    assert "s3cret" not in result.stdout


def test_a_file_that_is_not_toml_is_named_with_the_line(folder: Path) -> None:
    (folder / "syncline.toml").write_text("generation = 1\ntopic_prefix = \n")
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.startswith("syncline.toml: this is not TOML: Invalid value (at line 2")


def test_the_servers_are_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    result = run("check")
    assert result.exit_code == 0, result.stdout
    assert len(result.stdout.splitlines()) == 4
    monkeypatch.setenv("SYNCLINE_REDIS_URL", "redis://127.0.0.1:1/0")
    result = run("check")
    assert result.exit_code == 1
    assert "redis at 127.0.0.1:1 does not answer" in result.stdout
