"""A shop of its own on the session's servers: database, topics, index, cache and recovery folder."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import orjson
import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from elasticsearch import Elasticsearch
from psycopg import conninfo, sql
from redis import Redis

from syncline.flow_processes import FlowProcesses
from syncline.kafka import CLIENT_LOG
from syncline.model.errors import Unavailable
from syncline.monitor.freshness import wait_until_fresh
from syncline.monitor.verification import VerificationReport, verify
from syncline.provision import create_recovery_folder, provision
from syncline.services.schema import install_all
from syncline.settings import Settings
from tests.changes import SEARCH

CATCH_UP = timedelta(seconds=120)


class Published(NamedTuple):
    """One message of the relay, as it stands in the log."""

    schema: str
    entity: str
    version: tuple[int, bool]
    seq: int
    tenure: int


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

    def wait_until_fresh(self, flow: str = "catalog_search") -> None:
        """Wait until all that is committed now is in the copy; where it does not come, show the logs."""
        try:
            wait_until_fresh(flow, self.settings, CATCH_UP)
        except Unavailable as error:
            logs = [self.log(name).read_text()[-4_000:] for name in ("outbox_relay", flow)]
            raise AssertionError("\n".join([str(error), *logs])) from error

    def verify(self) -> VerificationReport:
        return verify("catalog_search", self.settings)

    def cache(self) -> Redis:
        return Redis.from_url(self.settings.redis_url.get_secret_value())

    def database(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.settings.postgres_dsn.get_secret_value(), autocommit=True)

    def elasticsearch(self) -> Elasticsearch:
        return Elasticsearch(self.settings.elasticsearch_url.get_secret_value())

    def published(self, *, committed: bool) -> list[list[Published]]:
        """All messages of the relay, partition by partition, in the order of the log."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap_servers,
                "group.id": str(uuid4()),
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "enable.auto.commit": False,
            },
            logger=CLIENT_LOG,
        )
        topics = SEARCH.topics(self.settings.topic_prefix)
        places = [
            (topic, partition) for topic in topics for partition in range(self.settings.topic_partitions)
        ]
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in places])
        found: dict[tuple[str | None, int | None], list[Published]] = defaultdict(list)
        open_places = set(places)
        while open_places:
            for message in consumer.consume(1_000, timeout=0.5):
                place = (message.topic(), message.partition())
                if message.error() is not None:
                    open_places.discard(place)
                    continue
                headers = dict(message.headers() or ())
                if "seq" not in headers:
                    continue
                payload = orjson.loads(message.value() or b"")
                found[place].append(
                    Published(
                        topics[str(message.topic())].owner,
                        payload["entity"],
                        (payload["version"], payload["op"] == "delete"),
                        int(headers["seq"] or b""),
                        int(headers["tenure"] or b""),
                    )
                )
        consumer.close()
        return list(found.values())


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
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
