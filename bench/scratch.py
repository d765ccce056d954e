"""A place of the bench's own on the servers, taken away afterwards: a database, topics, an index, a folder.

Everything has a name that begins with ``syncline-bench``, so nothing of anybody else's is touched, and
what a bench that was killed left behind is found and removed by the next one. (The three services' roles
belong to the whole PostgreSQL server; where they were missing they stay.)
"""

import ipaddress
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import elasticsearch
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from elasticsearch import Elasticsearch
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis
from redis.exceptions import RedisError

from sinks.postgres import install_sync_schema
from syncline.model.errors import Misconfigured, Unavailable
from syncline.policies.ownership import policies_by_topic
from syncline.postgres import Connection, connect
from syncline.provision import create_recovery_folder, create_search_index, create_topics
from syncline.services.schema import install_all
from syncline.settings import Settings

PREFIX = "syncline-bench"
_REDIS_DATABASE = 15
"""Nothing is written there. The flow removes keys of products that are not in it."""
_TIMEOUT_SECONDS = 10


def check_servers(settings: Settings) -> dict[str, str]:
    """Answer the servers' versions (Kafka tells none). Raise unless all answer and are this machine's own:
    a bench is a load that nobody wants on servers that others use."""
    _check_loopback(settings)
    start = "run: syncline stack up"
    try:
        with connect(settings.postgres_dsn.get_secret_value(), PREFIX) as connection:
            postgres = connection.info.parameter_status("server_version")
    except Unavailable as error:
        raise Unavailable(f"{error}; {start}") from error
    try:
        with Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=_TIMEOUT_SECONDS) as redis:
            redis_info = redis.info("server")
    except RedisError as error:
        raise Unavailable(f"Redis does not answer: {error}; {start}") from error
    try:
        _admin(settings).list_topics(timeout=_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise Unavailable(f"Kafka does not answer: {error.args[0].str()}; {start}") from error
    try:
        with elasticsearch_client(settings) as client:
            nodes = client.nodes.info(filter_path="nodes.*.version")["nodes"].values()
    except elasticsearch.TransportError as error:
        raise Unavailable(f"Elasticsearch does not answer: {error}; {start}") from error
    return {
        "postgresql": str(postgres),
        "redis": f"{redis_info.get('server_name', 'redis')} {redis_info['redis_version']}",
        "elasticsearch": ", ".join(sorted({node["version"] for node in nodes})),
    }


def _check_loopback(settings: Settings) -> None:
    dsn = conninfo_to_dict(settings.postgres_dsn.get_secret_value())
    hosts = {
        "postgres_dsn": str(dsn.get("host") or "").split(","),
        "redis_url": [urlsplit(settings.redis_url.get_secret_value()).hostname or ""],
        "kafka_bootstrap_servers": [
            address.rpartition(":")[0] for address in settings.kafka_bootstrap_servers.split(",")
        ],
        "elasticsearch_url": [urlsplit(settings.elasticsearch_url.get_secret_value()).hostname or ""],
    }
    for name, named in hosts.items():
        for host in named:
            if not is_loopback(host):
                raise Misconfigured(
                    f"{name}: {host} is another machine; the bench loads only servers of this one. "
                    "Unset it and run: syncline stack up"
                )


def is_loopback(host: str) -> bool:
    """Whether the host is this machine; no host, or a path, is a socket on it."""
    if host in {"", "localhost"} or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only bench on these servers, and begin and end without remains of any."""
    with connect(settings.postgres_dsn.get_secret_value(), PREFIX) as lock:
        won = lock.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (PREFIX,)).fetchone()
        if won != (True,):
            raise Misconfigured("another bench runs on these servers; wait for it")
        _sweep(settings, lock)
        try:
            yield
        finally:
            _sweep(settings, lock)


@contextmanager
def scratch(
    settings: Settings, *, services: bool = False, index: bool = True, working_set_mib: int | None = None
) -> Iterator[Settings]:
    """Settings of a place where a flow can run: the same servers, new names.

    ``services`` also installs the services' tables. Without ``index`` the caller makes the index.
    """
    name = f"{PREFIX}-{time.time_ns() // 1_000_000}"
    dsn = make_conninfo(settings.postgres_dsn.get_secret_value(), dbname=name)
    own = Settings(
        home=settings.home / "bench" / name,
        postgres_dsn=dsn,
        catalog_dsn=dsn,
        pricing_dsn=dsn,
        warehouse_dsn=dsn,
        customers_dsn=dsn,
        redis_url=_with_database(settings.redis_url.get_secret_value()),
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        elasticsearch_url=settings.elasticsearch_url,
        topic_prefix=name,
        search_alias=f"{name}-products",
        health_port=0,
        working_set_mib=settings.working_set_mib if working_set_mib is None else working_set_mib,
    )
    with connect(settings.postgres_dsn.get_secret_value(), PREFIX) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            install_sync_schema(dsn)
            if services:
                install_all(own.source_dsns)
            create_topics(own)
            if index:
                create_search_index(own)
            create_recovery_folder(own, "catalog_search")
            yield own
        finally:
            _drop_database(connection, name)
            _delete_topics(settings, policies_by_topic(name))
            delete_indices(settings, f"{name}*")
            shutil.rmtree(own.home, ignore_errors=True)


def elasticsearch_client(settings: Settings) -> Elasticsearch:
    return Elasticsearch(settings.elasticsearch_url.get_secret_value(), request_timeout=60)


def delete_indices(settings: Settings, pattern: str) -> None:
    """Delete by name, one after another: the server may refuse wildcards here."""
    with elasticsearch_client(settings) as client:
        for name in client.indices.get(index=pattern, ignore_unavailable=True, filter_path="*.aliases").body:
            client.indices.delete(index=name, ignore_unavailable=True)


def _with_database(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{_REDIS_DATABASE}", query=""))


def _admin(settings: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})


def _sweep(settings: Settings, connection: Connection) -> None:
    databases = connection.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (PREFIX,)
    )
    for (name,) in databases.fetchall():
        _drop_database(connection, name)
    topics = _admin(settings).list_topics(timeout=_TIMEOUT_SECONDS).topics
    _delete_topics(settings, [topic for topic in topics if topic.startswith(PREFIX)])
    delete_indices(settings, f"{PREFIX}*")
    shutil.rmtree(settings.home / "bench", ignore_errors=True)


def _drop_database(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _delete_topics(settings: Settings, topics: Iterable[str]) -> None:
    names = list(topics)
    if not names:
        return
    admin = _admin(settings)  # held until all is done: it takes its requests with it when it goes
    for done in admin.delete_topics(names).values():
        error = done.exception()
        if isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            continue
        done.result()
