"""A corner of the shared servers for one test module: its own database, topics, index and cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from elasticsearch import Elasticsearch
from psycopg import conninfo, sql
from redis import Redis

from syncline.policies.ownership import policies_by_topic
from syncline.policies.reentry import reentry_topic
from syncline.provision import provision, search_index_name
from syncline.services.schema import install
from syncline.settings import Settings
from tests.log import Log


@contextmanager
def own_database(server_dsn: str, name: str) -> Iterator[str]:
    """The connection string of an empty database, which is dropped at the end."""
    database = sql.Identifier(name)
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
        try:
            yield conninfo.make_conninfo(server_dsn, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


def but(settings: Settings, **changed: object) -> Settings:
    """The settings with some of them changed, checked and with nothing remembered of the old ones."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings.model_validate({**given, **changed})


@contextmanager
def own_settings(
    settings: Settings, name: str, redis_database: int, partitions: int = 2, home: Path | None = None
) -> Iterator[Settings]:
    """Settings for this name alone, with everything provisioned and the services installed."""
    redis_url = f"{settings.redis_url.get_secret_value().rpartition('/')[0]}/{redis_database}"
    with own_database(settings.postgres_dsn.get_secret_value(), f"own_{name}") as dsn:
        own = but(
            settings,
            home=home or settings.home,
            postgres_dsn=dsn,
            redis_url=redis_url,
            topic_prefix=f"own-{name}",
            topic_partitions=partitions,
            search_alias=f"own-{name}",
        )
        remove(own)
        provision(own)
        install(dsn)
        try:
            yield own
        finally:
            remove(own)


def remove(settings: Settings) -> None:
    """What the servers hold beside the database."""
    log = Log(settings.kafka_bootstrap_servers)
    there = log.admin.list_topics(timeout=10).topics
    prefix = settings.topic_prefix
    ours = (*policies_by_topic(prefix), reentry_topic(prefix))
    log.delete([topic for topic in ours if topic in there])
    with Elasticsearch(settings.elasticsearch_url.get_secret_value()) as client:
        client.indices.delete(index=search_index_name(settings), ignore_unavailable=True)
    with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        redis.flushdb()
