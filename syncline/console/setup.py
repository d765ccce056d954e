"""``syncline setup``: what the flows need on your servers."""

from typing import Annotated

import orjson
import typer
from rich.console import Console

from sinks import sql
from sinks.postgres import install_sync_schema
from sinks.postgres_documents import install_profiles
from syncline.flow_processes import FLOWS
from syncline.model.errors import Misconfigured
from syncline.provision import (
    create_recovery_folder,
    create_search_index,
    create_topics,
    search_index,
    search_index_name,
    topics,
)
from syncline.services.schema import install_all, installation
from syncline.settings import Settings
from syncline.statements import statement

console = Console(soft_wrap=True)


def setup(
    show: Annotated[bool, typer.Option("--print", help="Only print what would be created.")] = False,
    services: Annotated[
        bool, typer.Option("--services", help="Also the producing services' tables, outboxes and roles.")
    ] = False,
    no_notify: Annotated[
        bool,
        typer.Option(
            "--no-notify",
            help="With --services: no commit wakes the relay, which looks every "
            "SYNCLINE_RELAY_POLL_INTERVAL_MS instead. For databases with prepared transactions, which "
            "NOTIFY forbids, or with so many commits at once that its lock of the whole database holds "
            "them up. Setup without this option switches NOTIFY on again.",
        ),
    ] = False,
) -> None:
    """Create what the flows need on your servers: schemas, topics, index, recovery folders.

    What is there already stays as it is.
    """
    if no_notify and not services:
        raise Misconfigured("--no-notify is about the services' outboxes; give --services with it")
    settings = Settings.load()
    if show:
        _print(settings, services=services, notify=not no_notify)
        return
    if services:
        install_all(settings.source_dsns, notify=not no_notify)
        without = " without NOTIFY" if no_notify else ""
        console.print(f"services: {', '.join(settings.source_dsns)}, with their outboxes{without}")
    dsn = settings.postgres_dsn.get_secret_value()
    install_sync_schema(dsn)
    install_profiles(dsn)
    console.print("PostgreSQL: schemas sync and profiles")
    created = create_topics(settings)
    console.print(f"Kafka: {', '.join(topic.topic for topic in topics(settings))} ({len(created)} new)")
    is_new = create_search_index(settings)
    console.print(f"Elasticsearch: alias {settings.search_alias} ({'new' if is_new else 'was there'})")
    for flow, keeps_snapshots in FLOWS.items():
        if keeps_snapshots:
            console.print(f"recovery folder: {create_recovery_folder(settings, flow)}")
    console.print(f"Next, each in a shell of its own: {'; '.join(f'syncline run {flow}' for flow in FLOWS)}")


def _print(settings: Settings, *, services: bool, notify: bool) -> None:
    if services:
        typer.echo(f"-- psql, in each source database\n{installation(notify=notify)}")
    typer.echo("-- psql, in the database of SYNCLINE_POSTGRES_DSN")
    for schema in ("schema", "profiles"):
        typer.echo(statement(sql, schema).decode())
    for topic in topics(settings):
        options = " ".join(f"--config {name}={value}" for name, value in (topic.config or {}).items())
        typer.echo(
            f"kafka-topics.sh --bootstrap-server {settings.kafka_bootstrap_servers} --create --if-not-exists"
            f" --topic {topic.topic} --partitions {topic.num_partitions}"
            f" --replication-factor {topic.replication_factor} {options}"
        )
    body = orjson.dumps(search_index(settings), option=orjson.OPT_INDENT_2).decode()
    typer.echo(f"\nPUT /{search_index_name(settings)}\n{body}")
    typer.echo("\npython -m bytewax.recovery FOLDER 4    # a folder for each flow that keeps snapshots")
