"""A shop of its own on the session's servers: database, topics, index, cache and recovery folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
from elasticsearch import Elasticsearch
from psycopg import conninfo, sql
from redis import Redis

from syncline.flow_processes import FlowProcesses
from syncline.model.errors import Unavailable
from syncline.monitor.freshness import wait_until_fresh
from syncline.monitor.verification import VerificationReport, verify
from syncline.provision import create_recovery_folder, provision
from syncline.services.schema import install_all
from syncline.settings import Settings

CATCH_UP = timedelta(seconds=120)


@dataclass(frozen=True)
class World:
    settings: Settings

    def relay(self) -> FlowProcesses:
        return FlowProcesses("outbox_relay", self.settings, None, log=self.log("outbox_relay"))

    def search(self, processes: int = 1, settings: Settings | None = None) -> FlowProcesses:
        return self.copy("catalog_search", processes, settings)

    def copy(self, flow: str, processes: int = 1, settings: Settings | None = None) -> FlowProcesses:
        """A flow that keeps a copy."""
        settings = settings or self.settings
        folder = create_recovery_folder(settings, flow)
        return FlowProcesses(flow, settings, folder, processes, self.log(flow))

    def log(self, flow: str) -> Path:
        return self.settings.home / "logs" / f"{flow}.log"

    @property
    def recovery_folder(self) -> Path:
        return self.settings.recovery_folder / "catalog_search"

    def wait_until_fresh(self, flow: str = "catalog_search", within: timedelta = CATCH_UP) -> None:
        """Wait until all that is committed now is in the copy; where it does not come, show the logs."""
        try:
            wait_until_fresh(flow, self.settings, within)
        except Unavailable as error:
            logs = [path.read_text()[-4_000:] for path in sorted(self.log(flow).parent.iterdir())]
            raise AssertionError("\n".join([str(error), *logs])) from error

    def verify(self) -> VerificationReport:
        return verify("catalog_search", self.settings)

    def cache(self) -> Redis:
        return Redis.from_url(self.settings.redis_url.get_secret_value())

    def database(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.settings.postgres_dsn.get_secret_value(), autocommit=True)

    def elasticsearch(self) -> Elasticsearch:
        return Elasticsearch(self.settings.elasticsearch_url.get_secret_value())


@contextmanager
def world(base: Settings, home: Path) -> Iterator[World]:
    name = f"w{uuid4().hex[:12]}"
    admin = base.postgres_dsn.get_secret_value()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    settings = Settings(
        **base.model_dump(exclude_unset=True)
        | {
            "home": home,
            "postgres_dsn": conninfo.make_conninfo(admin, dbname=name),
            "topic_prefix": name,
            "search_alias": name,
        }
    )
    install_all(settings.source_dsns)
    provision(settings)
    yield World(settings)
    # Another connection: the server may have been killed meanwhile.
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
