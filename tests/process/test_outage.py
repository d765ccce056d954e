"""A store that is away: what is seen of it from outside, how the others go on, and how it ends."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import conninfo
from redis import Redis

from syncline.flow_processes import free_ports
from syncline.monitor.status import FlowStatus, read_status
from syncline.settings import Settings
from tests.log import Log
from tests.process.probes import TO_END_S, get
from tests.process.running import Running
from tests.process.test_flow import is_indexed, produce
from tests.road import Road, port_of
from tests.services.database import Database
from tests.waiting import eventually

CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@pytest.fixture
def elsewhere(own: Settings) -> Iterator[Running]:
    """Another flow, with a recovery folder of its own."""
    with Running(own) as running:
        yield running


def status(own: Settings, flow: str) -> FlowStatus:
    return next(each for each in read_status(own).flows if each.flow == flow)


def metric(port: int, name: str, **labels: str) -> float | None:
    _, text = get(port, "/metrics")
    return next(
        (
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ),
        None,
    )


def circuit(port: int, target: str = "elasticsearch") -> float | None:
    return metric(port, "syncline_circuit_state", target=target)


def dependencies(port: int) -> dict[str, str]:
    """What the probe says beside its answer."""
    told = orjson.loads(get(port, "/ready")[1])["dependencies"]
    return {each["target"]: each["state"] for each in told}


def as_of(database: Database, flow: str) -> dict[str, datetime]:
    rows = database.ask(
        f"SELECT owner, as_of FROM sync.freshness WHERE flow = '{flow}' AND as_of IS NOT NULL"
    )
    return dict(rows)


def test_an_outage_of_elasticsearch_is_seen_everywhere_and_holds_up_nobody_else(
    own: Settings, running: Running, elsewhere: Running, database: Database
) -> None:
    [port] = free_ports(1)
    running.start("outbox_relay")
    profiles = elsewhere.start("customer_profiles")
    with Road(port_of(own.elasticsearch_url.get_secret_value())) as road:
        away = {"elasticsearch_url": f"http://{road.address}", "health_port": port, "ready_within_s": 2}
        search = running.start("catalog_search", **away)
        database.write("catalog", "INSERT INTO catalog.products (sku, name) VALUES ('before', 'Lamp')")
        eventually(lambda: is_indexed(own, "before"), what="the index")
        owners = {"catalog", "pricing", "warehouse"}
        eventually(lambda: as_of(database, "catalog_search").keys() == owners, what="freshness")
        assert circuit(port) == CLOSED

        road.close()
        eventually(lambda: circuit(port) == OPEN, what="the open circuit, of an idle flow too")
        database.write("catalog", "INSERT INTO catalog.products (sku, name) VALUES ('held', 'Lamp')")
        [(was_there_at,)] = database.ask("SELECT clock_timestamp()")
        eventually(lambda: is_held(own), what="the held place")
        held = status(own, "catalog_search")
        assert held.state == "running"
        assert held.held_by is not None
        assert held.held_by.startswith("elasticsearch is down since ")
        assert "Elasticsearch does not answer" in held.held_by
        assert held.next_command == "syncline config check"
        eventually(lambda: get(port, "/ready")[0] == 503, what="not ready")
        assert dependencies(port) == {
            "elasticsearch": "down", "kafka": "up", "postgres": "up", "redis": "up"
        }  # fmt: skip
        assert metric(port, "syncline_place_held", target="elasticsearch") == 1
        assert metric(port, "syncline_circuit_openings_total", target="elasticsearch") == 1

        # Its freshness stands still, and says so; the other flow goes on.
        frozen = as_of(database, "catalog_search")
        others = as_of(database, "customer_profiles")["customers"]
        ann = str(uuid4())
        database.write(
            "storefront",
            f"INSERT INTO customers.storefront (id, email) VALUES ('{ann}', 'ann@shop.example')",
        )
        eventually(
            lambda: database.ask(f"SELECT FROM profiles.customers WHERE id = '{ann}'"),
            what="the profile",
        )
        eventually(lambda: as_of(database, "customer_profiles")["customers"] > others, what="freshness")
        eventually(
            lambda: (status(own, "catalog_search").freshness_by_owner["catalog"] or 0) > 11,
            what="an age beyond the signs of life",
        )
        assert as_of(database, "catalog_search") == frozen
        assert frozen["catalog"] < was_there_at, "it never runs ahead"
        assert in_redis(own) == frozen
        assert (metric(port, "syncline_freshness_seconds", owner="catalog") or 0) > 10
        assert status(own, "catalog_search").state == "running"
        assert status(own, "customer_profiles").held_by is None

        # A server that takes the probe and does not answer.
        road.silence()
        road.open()
        eventually(lambda: circuit(port) == HALF_OPEN, what="the probe")
        road.close()
        eventually(lambda: circuit(port) == OPEN, what="the probe's failure")

        assert search.end(signal.SIGTERM) < TO_END_S
        assert search.outcome() == 0, search.text
        assert database.ask("SELECT target FROM sync.health WHERE flow = 'catalog_search'") == []
        assert status(own, "catalog_search").state == "stopped"
        assert as_of(database, "catalog_search") == frozen, "its last word is kept"

        search = running.start("catalog_search", **away)
        eventually(lambda: is_held(own), what="the held place of a flow that has confirmed nothing")
        assert status(own, "catalog_search").state == "running"
        road.open()
        eventually(lambda: is_indexed(own, "held"), what="the change that was held")
        eventually(lambda: circuit(port) == CLOSED, what="the closed circuit")
        eventually(lambda: min(as_of(database, "catalog_search").values()) > was_there_at, what="freshness")
        eventually(lambda: not is_held(own), what="no held place")
        assert search.end(signal.SIGTERM) < TO_END_S
        assert profiles.end(signal.SIGTERM) < TO_END_S


def is_held(own: Settings) -> bool:
    return status(own, "catalog_search").held_by is not None


def in_redis(own: Settings) -> dict[str, datetime]:
    with Redis.from_url(own.redis_url.get_secret_value(), decode_responses=True) as redis:
        told = redis.hgetall("syncline:freshness:catalog_search")
    return {owner: datetime.fromtimestamp(int(as_of_us) / 1e6, UTC) for owner, as_of_us in told.items()}


def test_four_crews_that_hold_their_places_send_one_probe(own: Settings, log: Log, running: Running) -> None:
    [port] = free_ports(1)
    with Road(port_of(own.elasticsearch_url.get_secret_value())) as road:
        search = running.start(
            "catalog_search",
            elasticsearch_url=f"http://{road.address}",
            health_port=port,
            window_max_changes=40,
        )
        produce(log, own, "crews")
        eventually(lambda: is_indexed(own, "crews"), what="the index")
        road.close()
        skus = [f"crew-{number}" for number in range(200)]
        produce(log, own, *skus)
        search.await_event("holding the place", doing="documents")
        road.silence()
        road.open()
        eventually(lambda: circuit(port) == HALF_OPEN, what="the probe")
        most, until = 0, time.monotonic() + 2
        while time.monotonic() < until:
            most = max(most, road.travellers)
        assert most == 1
        road.close()
        road.open()
        eventually(
            lambda: all(is_indexed(own, sku) for sku in (skus[0], skus[-1])), seconds=60, what="what was held"
        )
        assert search.end(signal.SIGTERM) < TO_END_S
        assert search.outcome() == 0, search.text


@pytest.mark.parametrize("flow", ["catalog_search", "outbox_relay"])
def test_postgres_that_is_away_is_told_once_it_is_back(
    own: Settings, running: Running, database: Database, flow: str
) -> None:
    """It is where word is left: meanwhile the probe knows, and nothing waits for it."""
    dsn = own.postgres_dsn.get_secret_value()
    [port] = free_ports(1)
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0)) as road:
        address = conninfo.make_conninfo(dsn, port=road.port)
        process = running.start(flow, postgres_dsn=address, health_port=port)
        eventually(lambda: database.ask(f"SELECT target FROM sync.health WHERE flow = '{flow}'"), what="word")
        road.close()
        eventually(lambda: circuit(port, "postgres") == OPEN, what="the open circuit")
        assert dependencies(port)["postgres"] == "down"
        road.open()
        eventually(lambda: circuit(port, "postgres") == CLOSED, what="the closed circuit")
        eventually(
            lambda: database.ask(
                f"SELECT last_error FROM sync.health WHERE flow = '{flow}' AND target = 'postgres' "
                "AND state = 'up' AND last_error IS NOT NULL"
            ),
            what="word of the outage",
        )
        assert process.end(signal.SIGTERM) < TO_END_S
        assert process.outcome() == 0, process.text
