"""Settings: which source wins, what is refused, and that nobody sees a secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from syncline.model.errors import Misconfigured
from syncline.settings import Settings, embedded_addresses_file
from tests.own import but


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no variables of Syncline's."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SYNCLINE_{name.upper()}", raising=False)
    monkeypatch.delenv("SYNCLINE_CONFIG_FILE", raising=False)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_environment_wins_over_the_file_and_that_over_the_embedded_servers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().kafka_bootstrap_servers == "127.0.0.1:9092"
    addresses = embedded_addresses_file(Path(".syncline"))
    write(addresses, 'kafka_bootstrap_servers = "embedded:1"\nredis_url = "redis://embedded:1/0"\n')
    assert Settings().kafka_bootstrap_servers == "embedded:1"
    write(folder / "syncline.toml", 'kafka_bootstrap_servers = "file:2"\ntopic_partitions = 3\n')
    assert Settings().kafka_bootstrap_servers == "file:2"
    monkeypatch.setenv("SYNCLINE_KAFKA_BOOTSTRAP_SERVERS", "variable:3")
    settings = Settings()
    assert settings.kafka_bootstrap_servers == "variable:3"
    assert settings.topic_partitions == 3
    assert settings.redis_url.get_secret_value() == "redis://embedded:1/0"
    assert Settings(kafka_bootstrap_servers="given:4").kafka_bootstrap_servers == "given:4"


def test_the_home_and_the_file_can_be_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(embedded_addresses_file(folder / "home"), 'kafka_bootstrap_servers = "embedded:1"\n')
    write(folder / "other.toml", "generation = 5\n")
    monkeypatch.setenv("SYNCLINE_HOME", str(folder / "home"))
    monkeypatch.setenv("SYNCLINE_CONFIG_FILE", str(folder / "other.toml"))
    settings = Settings()
    assert (settings.kafka_bootstrap_servers, settings.generation) == ("embedded:1", 5)
    assert settings.recovery_folder == folder / "home" / "recovery"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('no_such_setting = "x"', "no_such_setting"),
        ("topic_partitions = 0", "topic_partitions"),
        ('topic_partitions = "many"', "topic_partitions"),
        ("health_port = 70000", "health_port"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(folder: Path, line: str, told: str) -> None:
    write(folder / "syncline.toml", line)
    with pytest.raises(ValidationError, match=told):
        Settings()


def test_a_variable_that_makes_no_sense_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_WINDOW_MAX_AGE_MS", "-3")
    with pytest.raises(ValidationError, match="window_max_age_ms"):
        Settings()


def test_secrets_are_never_shown(folder: Path) -> None:
    settings = Settings(
        postgres_dsn="postgresql://u:s3cret@h/d",
        catalog_dsn="postgresql://u:s3cret@h/c",
        redis_url="redis://:s3cret@h/0",
        elasticsearch_url="http://u:s3cret@h:9200",
    )
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "s3cret" not in text
        assert "**********" in text


def test_a_source_without_a_database_of_its_own_is_in_the_common_one(folder: Path) -> None:
    settings = but(Settings(), postgres_dsn="postgresql://common", pricing_dsn="postgresql://pricing")
    assert settings.source_dsns == {
        "catalog": "postgresql://common",
        "pricing": "postgresql://pricing",
        "warehouse": "postgresql://common",
        "customers": "postgresql://common",
    }


def test_a_child_process_gets_all_that_was_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = but(
        Settings(), postgres_dsn="postgresql://u:s3cret@h/d", currencies=("EUR", "SEK"), topic_partitions=3
    )
    environment = settings.as_environment()
    assert environment["SYNCLINE_POSTGRES_DSN"] == "postgresql://u:s3cret@h/d"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    child = Settings()
    assert (child.currencies, child.topic_partitions) == (("EUR", "SEK"), 3)
    assert child.postgres_dsn == settings.postgres_dsn


def test_settings_do_not_change(folder: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().topic_prefix = "other"  # type: ignore[misc]


def test_what_is_wrong_is_told_for_every_setting_and_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "syncline.toml"
    file.write_text('postgres_dsnn = "postgresql://u:s3cret@h/d"\nwindow_max_age_ms = "soon"\n')
    monkeypatch.setenv("SYNCLINE_CONFIG_FILE", str(file))
    with pytest.raises(Misconfigured, match="postgres_dsnn") as told:
        Settings.load()
    assert "window_max_age_ms" in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_file_that_is_not_toml_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "syncline.toml"
    file.write_text("postgres_dsn = ")
    monkeypatch.setenv("SYNCLINE_CONFIG_FILE", str(file))
    with pytest.raises(Misconfigured, match="not TOML"):
        Settings.load()
