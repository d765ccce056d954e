"""Every setting of Syncline, typed, with its unit in its name and its default.

Read from, first match wins: environment variables ``SYNCLINE_*``; the TOML file named by
``SYNCLINE_CONFIG_FILE`` (default ``syncline.toml`` in the working folder); the addresses that
``syncline stack up`` wrote for its embedded servers; the defaults below, which are the usual ports on
this machine. Secrets are never shown: they print as ``**********``.
"""

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path

import orjson
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from syncline.model.errors import Misconfigured

CONFIG_FILE = Path("syncline.toml")
DEFAULT_HOME = Path(".syncline")


def embedded_addresses_file(home: Path) -> Path:
    """Where the embedded servers' addresses stand while they run."""
    return home / "stack" / "addresses.toml"


def settings_files() -> tuple[Path, Path]:
    """Where settings are read from beside the environment; the first file that has a setting counts."""
    home = Path(os.environ.get("SYNCLINE_HOME", DEFAULT_HOME))
    return Path(os.environ.get("SYNCLINE_CONFIG_FILE", CONFIG_FILE)), embedded_addresses_file(home)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="SYNCLINE_",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # it may be a password under a mistyped name
    )

    home: Path = Field(DEFAULT_HOME, description="Folder for data, logs and recovery snapshots.")

    # Addresses of the servers.
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/shop"),
        description="Syncline's own schemas, and the default for every source.",
    )
    catalog_dsn: SecretStr | None = Field(None, description="Source database of the catalog service.")
    pricing_dsn: SecretStr | None = Field(None, description="Source database of the pricing service.")
    warehouse_dsn: SecretStr | None = Field(None, description="Source database of the warehouse service.")
    customers_dsn: SecretStr | None = Field(
        None, description="Source database of the three services that write customers."
    )
    other_dsns: dict[str, SecretStr] = Field(
        {}, description="Source databases of owners that policies of your own name, by owner."
    )
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    elasticsearch_url: SecretStr = SecretStr("http://127.0.0.1:9200")

    # Names on the servers.
    topic_prefix: str = Field("syncline", description="Topics are PREFIX.OWNER.ENTITY.")
    topic_partitions: int = Field(3, ge=1, description="A multiple of the processes that read them.")
    topic_replication_factor: int = Field(1, ge=1, description="3 on a cluster that must not lose.")
    search_alias: str = Field("products", description="Alias of the index of search documents.")
    policies_dir: Path | None = Field(
        None, description="Folder of policy files (*.toml) in place of Syncline's own."
    )

    # The relay.
    generation: int = Field(1, ge=1, description="Raise when a source was restored to an earlier point.")
    relay_batch_rows: int = Field(
        2_000, ge=1, description="Most rows in one batch; a Kafka transaction ends once it holds as many."
    )
    relay_batch_interval_ms: int = Field(
        20, ge=0, description="Shortest time between two batches of an outbox that has no backlog."
    )
    relay_commit_interval_ms: int = Field(
        500,
        ge=0,
        le=10_000,
        description="Longest that a Kafka transaction stays open, and its published rows in the outbox.",
    )
    relay_idle_wait_ms: int = Field(50, ge=1, description="Longest single wait for a notification.")
    relay_poll_interval_ms: int = Field(500, ge=1, description="Safety net where no notification comes.")
    watermark_interval_ms: int = Field(1_000, ge=1, description="How finely freshness is told.")

    # Flows that keep a copy.
    source_batch_messages: int = Field(1_024, ge=1, description="Most messages taken by one poll.")
    source_poll_ms: int = Field(2, ge=0, description="Longest that one idle poll holds the worker.")
    window_max_changes: int = Field(
        1_500, ge=1, description="A quarter of it is written as soon as a crew has it."
    )
    window_max_age_ms: int = Field(10, ge=0, description="Age of its first change at which it is, too.")
    working_set_mib: int = Field(64, ge=0, description="Documents kept at hand, for each worker.")
    retry_attempts: int = Field(
        10,
        ge=0,
        description="How often a change that a store turned back alone comes back before a person is told.",
    )

    # Notification.
    notify_targets: dict[str, tuple[SecretStr, ...]] = Field(
        {}, description="By recipient: the addresses to tell it by, as Apprise takes them."
    )
    notify_interval_s: int = Field(
        300, ge=1, description="Shortest time between two messages to one address."
    )

    # The embedded servers.
    stack_compiles_fully: bool = Field(
        False, description="Kafka and Elasticsearch are slow for some minutes, then faster: for the bench."
    )

    # A process that runs a flow.
    health_port: int = Field(0, ge=0, le=65_535, description="Serves /ready, /live, /metrics; 0 is off.")
    ready_within_s: int = Field(15, ge=1, description="Not ready after so long without a read of the log.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = (TomlConfigSettingsSource(settings_cls, toml_file=file) for file in settings_files())
        return init_settings, env_settings, *files

    @classmethod
    def load(cls) -> "Settings":
        """The settings of this process. Raises ``Misconfigured``, which names every setting at fault."""
        try:
            return cls()
        except ValidationError as error:
            faults = (
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)
            )
            raise Misconfigured(f"settings: {'; '.join(faults)}") from None
        except SettingsError as error:
            raise Misconfigured(f"settings: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"settings: the file is not TOML: {error}") from None

    @property
    def source_dsns(self) -> dict[str, str]:
        """Connection string of each source database, by its schema."""
        own = {
            "catalog": self.catalog_dsn,
            "pricing": self.pricing_dsn,
            "warehouse": self.warehouse_dsn,
            "customers": self.customers_dsn,
        }
        known = {schema: dsn or self.postgres_dsn for schema, dsn in own.items()}
        return {schema: dsn.get_secret_value() for schema, dsn in {**known, **self.other_dsns}.items()}

    def outbox_dsns(self, owners: Iterable[str]) -> dict[str, str]:
        """Connection string of each outbox that the relay serves, by its schema; Syncline's own is one."""
        common, sources = self.postgres_dsn.get_secret_value(), self.source_dsns
        return {**{owner: sources.get(owner, common) for owner in owners}, "sync": common}

    @property
    def recovery_folder(self) -> Path:
        """Each flow keeps its snapshots in a folder of its own name below this one."""
        return self.home / "recovery"

    @property
    def run_folder(self) -> Path:
        """What supervised processes leave behind stands in a folder of the flow's name below this one."""
        return self.home / "run"

    def as_environment(self) -> dict[str, str]:
        """What was set, as variables for a child process, secrets included: keep it out of logs."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {
            f"SYNCLINE_{name.upper()}": orjson.dumps(value, default=_bare).decode()
            if isinstance(value, tuple | dict)
            else str(_bare(value) if isinstance(value, SecretStr) else value)
            for name, value in values.items()
            if value is not None
        }


def _bare(secret: SecretStr) -> str:
    return secret.get_secret_value()
