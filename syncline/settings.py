"""Every setting of Syncline, typed, with its unit in its name and its default.

Read from, first match wins: environment variables ``SYNCLINE_*``; the TOML file named by
``SYNCLINE_CONFIG_FILE`` (default ``syncline.toml`` in the working folder); the addresses that
``syncline stack up`` wrote for its embedded servers; the defaults below, which are the usual ports on
this machine. Secrets are never shown: they print as ``**********``.
"""

import os
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_FILE = Path("syncline.toml")
DEFAULT_HOME = Path(".syncline")


def embedded_addresses_file(home: Path) -> Path:
    """Where the embedded servers' addresses stand while they run."""
    return home / "stack" / "addresses.toml"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SYNCLINE_", extra="forbid", frozen=True)

    home: Path = Field(DEFAULT_HOME, description="Folder for data, logs and recovery snapshots.")

    # Addresses of the servers.
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/shop"),
        description="Syncline's own schemas, and the default for every source.",
    )
    catalog_dsn: SecretStr | None = Field(None, description="Source database of the catalog service.")
    pricing_dsn: SecretStr | None = Field(None, description="Source database of the pricing service.")
    warehouse_dsn: SecretStr | None = Field(None, description="Source database of the warehouse service.")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    elasticsearch_url: SecretStr = SecretStr("http://127.0.0.1:9200")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = Path(os.environ.get("SYNCLINE_HOME", DEFAULT_HOME))
        config_file = Path(os.environ.get("SYNCLINE_CONFIG_FILE", CONFIG_FILE))
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=config_file),
            TomlConfigSettingsSource(settings_cls, toml_file=embedded_addresses_file(home)),
        )

    @cached_property
    def source_dsns(self) -> dict[str, str]:
        """Connection string of each source database, by its schema."""
        own = {"catalog": self.catalog_dsn, "pricing": self.pricing_dsn, "warehouse": self.warehouse_dsn}
        return {schema: (dsn or self.postgres_dsn).get_secret_value() for schema, dsn in own.items()}
