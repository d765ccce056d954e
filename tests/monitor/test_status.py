"""Status of the flows from what real servers hold, in each state that a flow can be in."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from psycopg.types.json import Jsonb
from rich.console import Console

from syncline.console.status import flows_table
from syncline.kafka import CLIENT_LOG
from syncline.model import envelope
from syncline.model.errors import Unavailable
from syncline.model.latency import LatencyHistogram
from syncline.model.message import Record
from syncline.monitor.log_lag import log_lag
from syncline.monitor.status import FlowStatus, read_status
from syncline.provision import create_topics, topics
from syncline.settings import Settings
from tests.changes import SEARCH
from tests.customers import CUSTOMERS
from tests.log import Log
from tests.monitor.shop import Shop
from tests.own import but

RUN, NEXT_RUN = UUID(int=1), UUID(int=2)


class Flow:
    """Writes the rows of ``sync.status`` that a flow's workers would."""

    def __init__(self, connection: psycopg.Connection, own: Settings, name: str) -> None:
        self.name = name
        self._connection = connection
        self._own = own

    def row(
        self,
        state: str,
        seconds_ago: float = 0,
        run: UUID = RUN,
        worker: str = "0",
        error: str | None = None,
        watermarks: dict[str, int] | None = None,
        counts: dict[str, int] | None = None,
        histograms: dict[str, Any] | None = None,
    ) -> None:
        self._connection.execute(
            """
            INSERT INTO sync.status (
                flow, run, worker, state, error, watermarks, counts, histograms, recorded_at
            )
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() - %s)
            """,
            (
                self.name, run, worker, state, error, Jsonb(watermarks or {}), Jsonb(counts or {}),
                Jsonb(histograms or {}), timedelta(seconds=seconds_ago),
            ),
        )  # fmt: skip

    def status(self) -> FlowStatus:
        return next(flow for flow in read_status(self._own).flows if flow.flow == self.name)


@pytest.fixture
def search(connection: psycopg.Connection, own: Settings) -> Iterator[Flow]:
    yield Flow(connection, own, "catalog_search")
    connection.execute("TRUNCATE sync.status, sync.health, sync.freshness")


@pytest.fixture
def profiles(connection: psycopg.Connection, own: Settings) -> Iterator[Flow]:
    yield Flow(connection, own, "customer_profiles")
    connection.execute("TRUNCATE sync.status")


@pytest.fixture
def relay(connection: psycopg.Connection, own: Settings) -> Iterator[Flow]:
    yield Flow(connection, own, "outbox_relay")
    connection.execute("TRUNCATE sync.status")


def test_never_ran(search: Flow) -> None:
    status = search.status()
    assert (status.state, status.since, status.freshness_seconds) == ("never ran", None, None)
    assert status.next_command == "syncline run catalog_search"


def test_a_flow_that_nobody_ever_started_waits_for_nothing_and_nothing_waits_for_it(
    profiles: Flow, search: Flow, relay: Flow, own: Settings
) -> None:
    topic = next(iter(CUSTOMERS.topics(own.topic_prefix)))
    Log(own.kafka_bootstrap_servers).append([Record(topic, b"S", b"{}", (), 0)])
    for flow in (search, relay):
        flow.row("running")
    status = profiles.status()
    assert (status.state, status.waiting, status.oldest_waiting_seconds) == ("never ran", {}, None)
    assert status.next_command == "syncline run customer_profiles"
    assert relay.status().next_command == "syncline verify catalog_search"
    profiles.row("stopped", 60)
    assert profiles.status().waiting == {"Kafka": 1}
    assert relay.status().next_command == "syncline run customer_profiles"
    assert search.status().next_command == "syncline verify catalog_search"
    profiles.row("running", run=NEXT_RUN)
    assert profiles.status().next_command == "syncline verify customer_profiles"


def test_running(search: Flow, relay: Flow) -> None:
    for seconds_ago in (300, 1):
        search.row("running", seconds_ago)
    status = search.status()
    assert status.state == "running"
    assert status.since is not None
    assert status.next_command == "syncline run outbox_relay"
    relay.row("running")
    assert search.status().next_command == "syncline verify catalog_search"


def test_running_since_its_first_row(search: Flow, connection: psycopg.Connection) -> None:
    for seconds_ago in (300, 100, 1):
        search.row("running", seconds_ago)
    first = connection.execute("SELECT min(recorded_at) FROM sync.status").fetchone()
    assert first is not None
    assert search.status().since == first[0]


@pytest.mark.parametrize("last", ["running", "stopped"])
def test_stopped_with_or_without_a_word(search: Flow, last: str) -> None:
    search.row("running", 60)
    search.row(last, 30)
    status = search.status()
    assert (status.state, status.freshness_seconds) == ("stopped", None)
    assert status.next_command == "syncline run catalog_search"


def test_stopped_and_started_at_once(search: Flow) -> None:
    search.row("stopped", 3)
    search.row("running", 1, NEXT_RUN)
    assert search.status().state == "running"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("MissingResource: Kafka has no topic x", "syncline setup, then: syncline run catalog_search"),
        ("KeyError: 'x'", "read the flow's log, then: syncline run catalog_search"),
    ],
)
def test_failed(search: Flow, error: str, advice: str) -> None:
    search.row("running", 2)
    search.row("failed", 1, NEXT_RUN, "main", error)
    status = search.status()
    assert (status.state, status.last_error, status.since) == ("failed", error, status.last_error_at)
    assert status.next_command == advice


def test_failed_before_it_said_anything(search: Flow) -> None:
    search.row("failed", 3_600, error="Misconfigured: x")
    assert search.status().state == "failed"


def test_failed_and_started_again(search: Flow) -> None:
    search.row("running", 5)
    search.row("failed", 4, UUID(int=3), "main", "KeyError: 'x'")
    search.row("running", 1, NEXT_RUN)
    status = search.status()
    assert (status.state, status.last_error) == ("running", "KeyError: 'x'")


def test_a_relay_that_stood_by_failed(relay: Flow) -> None:
    relay.row("running", 3)
    relay.row("failed", 2, UUID(int=3), "main", "KeyError: 'x'")
    relay.row("running", 1)
    assert relay.status().state == "running"


def test_stopped_after_a_failure_that_is_over(search: Flow) -> None:
    search.row("failed", 100, UUID(int=3), "main", "KeyError: 'x'")
    search.row("running", 60, NEXT_RUN)
    search.row("stopped", 50, NEXT_RUN)
    assert search.status().state == "stopped"


def database_time_us(connection: psycopg.Connection) -> int:
    found = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint").fetchone()
    assert found is not None
    return int(found[0])


def fresh(connection: psycopg.Connection, owner: str, seconds: float | None) -> None:
    connection.execute(
        """
        INSERT INTO sync.freshness (flow, owner, as_of, lanes, lane_count)
        VALUES ('catalog_search', %s, clock_timestamp() - %s::interval, '{}', 16)
        """,
        (owner, None if seconds is None else timedelta(seconds=seconds)),
    )


def test_freshness_is_that_of_the_stalest_owner(search: Flow, connection: psycopg.Connection) -> None:
    for owner, seconds in (("catalog", 1), ("pricing", 60), ("warehouse", 2)):
        fresh(connection, owner, seconds)
    status = search.status()
    assert 60 <= (status.freshness_seconds or 0) < 90
    assert status.freshness_by_owner.keys() == {"catalog", "pricing", "warehouse"}
    assert 2 <= (status.freshness_by_owner["warehouse"] or 0) < 32


def test_freshness_is_unknown_until_every_owner_had_a_watermark(
    search: Flow, connection: psycopg.Connection
) -> None:
    fresh(connection, "catalog", 1)
    fresh(connection, "pricing", None)
    status = search.status()
    assert status.freshness_seconds is None
    assert status.freshness_by_owner["catalog"] is not None
    assert status.freshness_by_owner["pricing"] is None


def test_freshness_grows_old_while_the_flow_does_not_run(
    search: Flow, connection: psycopg.Connection
) -> None:
    search.row("stopped", 60)
    for owner in ("catalog", "pricing", "warehouse"):
        fresh(connection, owner, 3_600)
    status = search.status()
    assert status.state == "stopped"
    assert 3_600 <= (status.freshness_seconds or 0) < 3_630


def depends(
    connection: psycopg.Connection,
    target: str,
    state: str,
    seconds_ago: float = 0,
    run: UUID = RUN,
    *,
    holds: bool = False,
) -> None:
    """A process of ``catalog_search`` says so, of what is so since noon."""
    connection.execute(
        """
        INSERT INTO sync.health (
            flow, run, target, state, circuit, since, holds_place, last_error, started_at, updated_at
        )
        VALUES (
            'catalog_search', %s, %s, %s, 'open', '2026-01-01T12:00:00Z', %s, 'no answer',
            clock_timestamp() - interval '1 hour', clock_timestamp() - %s
        )
        """,
        (run, target, state, holds, timedelta(seconds=seconds_ago)),
    )


def test_a_flow_that_holds_its_place_runs_and_says_for_what(
    search: Flow, relay: Flow, connection: psycopg.Connection
) -> None:
    """It confirms nothing meanwhile."""
    search.row("running", 300)
    relay.row("running")
    assert search.status().state == "stopped"
    depends(connection, "kafka", "up")
    depends(connection, "elasticsearch", "down", holds=True)
    status = search.status()
    assert (status.state, status.held_by) == (
        "running",
        "elasticsearch is down since 12:00:00 UTC (no answer)",
    )
    assert status.since is not None
    assert [(each.target, each.state) for each in status.dependencies] == [
        ("elasticsearch", "down"),
        ("kafka", "up"),
    ]
    assert status.next_command == "syncline config check"


def test_the_table_tells_freshness_by_owner_and_for_what_a_place_is_held(
    search: Flow, own: Settings, connection: psycopg.Connection
) -> None:
    depends(connection, "elasticsearch", "down", holds=True)
    depends(connection, "redis", "up")
    fresh(connection, "pricing", 600)
    console = Console(width=600, file=StringIO())
    console.print(flows_table(read_status(own).flows))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert ", holds its place: elasticsearch is down since 12:00:00 UTC (no answer)" in told
    assert "elasticsearch down since 12:00:00, redis" in told
    assert "pricing 10 min" in told
    assert "warehouse -" in told
    assert "syncline config check" in told


def test_a_target_without_which_the_flow_goes_on_holds_nothing_up(
    search: Flow, connection: psycopg.Connection
) -> None:
    depends(connection, "redis", "down")
    status = search.status()
    assert (status.state, status.held_by) == ("running", None)
    assert [each.state for each in status.dependencies] == ["down"]


def test_of_several_processes_the_one_counts_that_finds_it_worst(
    search: Flow, connection: psycopg.Connection
) -> None:
    depends(connection, "elasticsearch", "up")
    depends(connection, "elasticsearch", "degraded", run=NEXT_RUN, holds=True)
    assert [each.state for each in search.status().dependencies] == ["degraded"]


def test_a_sign_of_life_grows_old(search: Flow, connection: psycopg.Connection) -> None:
    search.row("running", 60)
    depends(connection, "elasticsearch", "down", 11, holds=True)
    status = search.status()
    assert (status.state, status.held_by, status.dependencies) == ("stopped", None, [])


def test_signs_from_before_a_failure_are_none_of_life(search: Flow, connection: psycopg.Connection) -> None:
    depends(connection, "elasticsearch", "up", 2)
    search.row("failed", 1, UUID(int=3), "main", "KeyError: 'x'")
    assert search.status().state == "failed"


def test_freshness_of_relays_that_share_the_outboxes(relay: Flow, connection: psycopg.Connection) -> None:
    """Whichever relay has a schema now knows the latest; the other's word of it is old."""
    now_us = database_time_us(connection)
    old_us = now_us - 60_000_000
    watermarks = {"catalog.outbox": now_us, "pricing.outbox": old_us, "sync.outbox": now_us}
    relay.row("running", watermarks=watermarks)
    assert relay.status().freshness_seconds is None
    others = ("pricing", "warehouse", "customers")
    relay.row("running", run=NEXT_RUN, watermarks={f"{schema}.outbox": now_us for schema in others})
    freshness = relay.status().freshness_seconds
    assert freshness is not None
    assert freshness < 30


def test_what_waits_in_the_outboxes(relay: Flow, shop: Shop, connection: psycopg.Connection) -> None:
    for schema in ("catalog", "pricing", "warehouse", "customers", "sync"):
        connection.execute(f"DELETE FROM {schema}.outbox".encode())
    assert relay.status().oldest_waiting_seconds is None
    shop.sell("S")
    connection.execute("UPDATE pricing.outbox SET occurred_at = occurred_at - interval '5 min'")
    status = relay.status()
    expected = {"catalog": 1, "pricing": 1, "warehouse": 2, "customers": 0, "sync": 0}
    assert status.waiting == expected
    assert 300 <= (status.oldest_waiting_seconds or 0) < 330


@pytest.fixture
def unread(own: Settings) -> Iterator[Settings]:
    """Topics in which nobody else has written."""
    unread = but(own, topic_prefix=f"{own.topic_prefix}-unread")
    create_topics(unread)
    yield unread
    Log(own.kafka_bootstrap_servers).delete([topic.topic for topic in topics(unread)])


@pytest.mark.usefixtures("search")  # which empties the status afterwards
def test_what_waits_in_kafka_are_changes_alone(connection: psycopg.Connection, unread: Settings) -> None:
    """Neither watermarks nor the markers of transactions count. An aborted batch does: the flow reads it."""
    search = Flow(connection, unread, "catalog_search")
    search.row("stopped")
    log = Log(unread.kafka_bootstrap_servers)
    topic = next(iter(SEARCH.topics(unread.topic_prefix)))
    watermark = Record(topic, None, None, ((envelope.WATERMARK_US, b"1"),), 0)
    at = (envelope.COMMITTED_AT_US, b"1000000")
    changes = [Record(topic, b"S", b"{}", (at,), 0), Record(topic, b"S", b"{}", (), 0)]
    log.append([watermark, *changes], "monitor-lag")
    log.append([changes[0]], "monitor-lag", abort=True)
    log.append([watermark], "monitor-lag")
    status = search.status()
    assert (status.waiting, status.uncounted_records) == ({"Kafka": 3}, 0)
    assert (status.oldest_waiting_seconds or 0) > 1_000_000_000

    group = f"{unread.topic_prefix}-catalog_search"
    consumer = Consumer(
        {"bootstrap.servers": unread.kafka_bootstrap_servers, "group.id": group}, logger=CLIENT_LOG
    )
    consumer.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    assert search.status().waiting == {"Kafka": 2}
    consumer.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
    consumer.close()
    status = search.status()
    assert (status.waiting, status.oldest_waiting_seconds) == ({"Kafka": 0}, None)


class _Hesitant(Consumer):
    """On a broker that makes its topic of the groups' offsets at the first question for them."""

    asked = 0

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        _Hesitant.asked += 1
        if _Hesitant.asked < 3:
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        return super().committed(partitions, timeout=timeout)


def test_a_broker_that_has_just_started_is_given_a_moment(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncline.monitor.log_lag.Consumer", _Hesitant)
    monkeypatch.setattr(_Hesitant, "asked", 0)
    topics = list(SEARCH.topics(own.topic_prefix))
    assert log_lag(own.kafka_bootstrap_servers, "monitor-nobody", topics).uncounted_records == 0
    assert _Hesitant.asked == 3


def test_a_broker_that_knows_nothing_of_a_group_is_not_waited_for_long(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncline.monitor.log_lag.Consumer", _Hesitant)
    monkeypatch.setattr("syncline.monitor.log_lag.COORDINATOR_SECONDS", 0)
    monkeypatch.setattr(_Hesitant, "asked", 0)
    with pytest.raises(Unavailable, match="how far the flow has read"):
        log_lag(own.kafka_bootstrap_servers, "monitor-nobody", list(SEARCH.topics(own.topic_prefix)))


def test_what_there_was_no_time_to_count_is_said(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(own.kafka_bootstrap_servers)
    topic = list(SEARCH.topics(own.topic_prefix))[1]
    log.append([Record(topic, b"S", b"{}", (), 1)] * 3)
    monkeypatch.setattr("syncline.monitor.log_lag.COUNT_FOR_SECONDS", 0)
    lag = log_lag(own.kafka_bootstrap_servers, "monitor-nobody", [topic])
    assert (lag.changes, lag.uncounted_records) == (0, 3)


def test_the_last_minute(search: Flow) -> None:
    slow = LatencyHistogram()
    slow.record(100, 10)
    fast = LatencyHistogram()
    fast.record(1, 90)
    search.row("running", 100, counts={"applied": 1_000})
    for histogram, counts in ((slow, {"applied": 10}), (fast, {"applied": 80, "duplicate": 10})):
        search.row("running", 1, counts=counts, histograms={"end_to_end": histogram.to_plain()})
    status = search.status()
    assert status.last_minute == {"applied": 90, "duplicate": 10}
    assert status.changes_per_second == pytest.approx(100 / 60, abs=0.05)
    assert status.latency_ms["p50"] == pytest.approx(1, rel=0.06)
    assert status.latency_ms["p95"] == pytest.approx(100, rel=0.06)


def test_open_quarantine_is_counted(search: Flow, relay: Flow, shop: Shop) -> None:
    shop.quarantine("product:S", 1)
    shop.quarantine("product:S", 2)
    shop.quarantine("product:S", 3, state="replayed")
    assert (search.status().quarantined, relay.status().quarantined) == (2, 0)


def test_a_server_that_is_away_is_named(search: Flow, own: Settings) -> None:
    away = but(own, redis_url="redis://:secret@127.0.0.1:1/0", elasticsearch_url="http://127.0.0.1:1")
    status = read_status(away)
    assert [(server.name, server.address) for server in status.silent_servers] == [
        ("redis", "127.0.0.1:1"),
        ("elasticsearch", "127.0.0.1:1"),
    ]
    assert len(status.flows) == 3
    assert b"secret" not in orjson.dumps(status)


def test_an_address_that_is_none_is_told(own: Settings) -> None:
    [server] = read_status(but(own, elasticsearch_url="localhost")).silent_servers
    assert server.name == "elasticsearch"
    assert server.error is not None
    assert server.error.startswith("elasticsearch_url: URL must include")


def test_without_a_source_its_outbox_is_unknown(relay: Flow, own: Settings) -> None:
    status = read_status(but(own, pricing_dsn="postgresql://postgres@127.0.0.1:1/shop"))
    assert [server.name for server in status.silent_servers] == ["postgres (pricing)"]
    assert status.flows[0].waiting["pricing"] is None


def test_without_postgres_nothing_is_known_of_the_flows(own: Settings) -> None:
    status = read_status(but(own, postgres_dsn="postgresql://me:secret@127.0.0.1:1/shop"))
    assert status.flows == []
    assert [server.name for server in status.silent_servers] == ["postgres"]
    assert b"secret" not in orjson.dumps(status)


def test_without_kafka_its_lag_is_unknown(
    search: Flow, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.row("stopped")
    monkeypatch.setattr("syncline.monitor.servers.TIMEOUT_SECONDS", 0.5)
    status = read_status(but(own, kafka_bootstrap_servers="127.0.0.1:1"))
    assert status.flows[1].waiting == {"Kafka": None}
    assert [server.name for server in status.silent_servers] == ["kafka"]
