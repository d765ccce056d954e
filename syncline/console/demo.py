"""``syncline demo``: the whole road on real servers, from a commit in PostgreSQL to the search index."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sinks.elasticsearch import ElasticsearchStore
from syncline.flow_processes import FlowProcesses
from syncline.model.errors import Unavailable
from syncline.monitor.freshness import wait_until_fresh
from syncline.monitor.latency_report import counts, latency_table, step_latencies
from syncline.monitor.verification import verify
from syncline.postgres import connect
from syncline.provision import create_recovery_folder, provision
from syncline.services.pace import Progress
from syncline.services.schema import install_all
from syncline.services.shop import Shop
from syncline.settings import Settings
from syncline.stack.progress import Terminal
from syncline.stack.stack import Stack
from syncline.stopping import Stop, stop_on_signals

SEED_PRODUCTS = 1_000
CATCH_UP = timedelta(seconds=120)
TO_END = timedelta(minutes=2)
"""Two flows and four servers are stopped one after the other, each as its makers intend."""
_REFRESHES_PER_SECOND = 4

console = Console(highlight=False, soft_wrap=True)


def demo(
    rate: Annotated[float, typer.Option(help="Changes a second that the shop commits.")] = 500,
    seconds: Annotated[float, typer.Option(help="How long the shop is at work.")] = 15,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running until Ctrl-C.")] = False,
) -> None:
    """Start real servers, commit real changes, watch them arrive, and verify every document."""
    home = Settings.load().home
    stack = Stack(home)
    console.print(
        "[bold]1. Real servers[/]: PostgreSQL, Redis, Kafka and Elasticsearch, as ordinary processes"
    )
    with stack.while_this_process_lives(Terminal(console)):
        settings = Settings.load()
        install_all(settings.source_dsns)
        provision(settings)
        with _flows(settings):
            _follow_one_product(settings)
            begun = _watch_the_shop(settings, rate, seconds)
            good = _report(settings, begun)
            if keep:
                _wait_for_ctrl_c(settings)
            console.print("Stopping the flows and the servers ...")
    console.print(
        f"Stopped; data and logs are in {home}. Look around while it runs: ./run demo --keep. "
        "Delete the data: ./run stack reset"
    )
    raise typer.Exit(0 if good else 1)


@contextmanager
def _flows(settings: Settings) -> Iterator[None]:
    logs = settings.home / "logs"
    console.print(f"[bold]2. The flows[/]: outbox_relay and catalog_search; their logs are in {logs}")
    folder = create_recovery_folder(settings, "catalog_search")
    with (
        FlowProcesses("outbox_relay", settings, None, log=logs / "outbox_relay.log"),
        FlowProcesses("catalog_search", settings, folder, log=logs / "catalog_search.log"),
    ):
        wait_until_fresh("catalog_search", settings, CATCH_UP)
        yield


def _follow_one_product(settings: Settings) -> None:
    console.print("[bold]3. One product[/], committed by three services with plain SQL")
    sku = f"DEMO-{time.time_ns() // 1_000_000}"
    statements = (
        (
            "catalog",
            "INSERT INTO catalog.products (sku, name, category) VALUES (%s, 'Espresso cup', 'kitchen')",
        ),
        ("pricing", "INSERT INTO pricing.prices (sku, currency, list_amount) VALUES (%s, 'EUR', 12.90)"),
        (
            "warehouse",
            "INSERT INTO warehouse.stock (sku, warehouse_id, on_hand, reserved) VALUES (%s, 'W1', 7, 2)",
        ),
    )
    begun = datetime.now(UTC)
    for schema, statement in statements:
        with connect(settings.source_dsns[schema]) as connection:
            connection.execute(f"SET ROLE {schema}".encode())
            connection.execute(statement.encode(), (sku,))
            console.print(f"   {schema:<10} {statement.replace('%s', repr(sku))}", style="dim")
    document = _wait_for_document(settings, sku)
    document.pop("_sync")
    console.print("   and found in Elasticsearch; the first changes after a start meet cold servers:")
    console.print_json(orjson.dumps(document).decode(), indent=None)
    wait_until_fresh("catalog_search", settings, CATCH_UP)
    console.print(latency_table(step_latencies(settings, "catalog_search", begun)))


def _wait_for_document(settings: Settings, sku: str) -> dict[str, Any]:
    """Wait until all three services' parts are in the document."""
    store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)
    deadline = time.monotonic() + CATCH_UP.total_seconds()
    try:
        while time.monotonic() < deadline:
            stored = store.read([sku]).get(sku)
            if stored is not None and len(stored.document["_sync"]["entities"]) == 3:
                return stored.document
            time.sleep(0.01)
    finally:
        store.close()
    raise Unavailable(f"{sku} did not reach Elasticsearch within {CATCH_UP.total_seconds():.0f} s")


def _watch_the_shop(settings: Settings, rate: float, seconds: float) -> datetime:
    shop = Shop(settings.source_dsns, seed=7)
    console.print(
        f"[bold]4. The shop opens[/]: {SEED_PRODUCTS:,} products, "
        f"then {rate:,.0f} changes/s for {seconds:,.0f} s"
    )
    shop.seed_products(SEED_PRODUCTS)
    wait_until_fresh("catalog_search", settings, CATCH_UP)
    begun = datetime.now(UTC)
    with Live(console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True) as live:

        def show(progress: Progress) -> None:
            live.update(_live_table(settings, begun, progress))

        summary = shop.run(rate, seconds, on_progress=show)
    console.print(
        f"   changes committed: {summary.changes:,} in {summary.transactions:,} transactions, "
        f"{summary.rate:,.0f} a second"
    )
    wait_until_fresh("catalog_search", settings, CATCH_UP)
    return begun


def _live_table(settings: Settings, begun: datetime, progress: Progress) -> Table:
    decided = counts(settings, "catalog_search", begun)
    table = latency_table(step_latencies(settings, "catalog_search", begun))
    table.title = (
        f"{progress.seconds:.0f} s: {progress.changes:,} committed, {sum(decided.values()):,} in effect"
    )
    return table


def _report(settings: Settings, begun: datetime) -> bool:
    decided = counts(settings, "catalog_search", begun)
    console.print("   changes decided: " + ", ".join(f"{count:,} {name}" for name, count in decided.items()))
    store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)
    console.print(latency_table(step_latencies(settings, "catalog_search", begun)))
    report = verify("catalog_search", settings)
    store.client.indices.refresh(index=settings.search_alias)
    shown = store.client.count(index=settings.search_alias)["count"]
    store.close()
    hidden = report.documents - shown
    console.print(
        f"   documents written: {report.documents:,}, of which searches find {shown:,}; "
        f"{hidden:,} are hidden, of products that were deleted or are not there yet"
    )
    console.print(f"[bold]5. {report.summary}[/]")
    return report.is_clean


def _wait_for_ctrl_c(settings: Settings) -> None:
    stop = Stop()
    stop_on_signals(stop, force_after=TO_END)
    url = settings.elasticsearch_url.get_secret_value()
    console.print(
        "\nEverything is left running. In another shell:\n"
        f"  search:  curl '{url}/{settings.search_alias}/_search?q=category:kitchen&pretty'\n"
        f"  change:  psql '{settings.postgres_dsn.get_secret_value()}'\n"
        "  look:    ./run status\n"
        "  check:   ./run verify catalog_search\n"
        "Stop it all: Ctrl-C here."
    )
    stop.wait(math.inf)
