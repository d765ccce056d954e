"""A flow as a process: it ends when it is told to, whatever is away, and says why when it ends by itself."""

import signal

import orjson
import pytest
from elasticsearch import Elasticsearch, NotFoundError
from psycopg import conninfo

from syncline.flow_processes import free_ports
from syncline.policies.reentry import reentry_topic
from syncline.settings import Settings
from tests.changes import PRODUCT, SEARCH, payload, product
from tests.log import Log, record
from tests.process.probes import TO_END_S, assert_healthy, assert_one_line, get, read_so_far
from tests.process.running import Running
from tests.road import Road, port_of
from tests.services.database import Database
from tests.waiting import eventually


def produce(log: Log, own: Settings, *skus: str) -> None:
    topic = PRODUCT.topic(own.topic_prefix)
    log.append(record(topic, sku.encode(), orjson.dumps(payload("product", product(sku)))) for sku in skus)


def is_indexed(own: Settings, sku: str) -> bool:
    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        try:
            return bool(client.get(index=own.search_alias, id=sku)["found"])
        except NotFoundError:
            return False


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_flow_with_a_last_snapshot(
    own: Settings, log: Log, running: Running, database: Database, signal_number: signal.Signals
) -> None:
    skus = [f"{signal_number.name}-{n}" for n in range(20)]
    produce(log, own, *skus)
    messages = log.read(*SEARCH.topics(own.topic_prefix), reentry_topic(own.topic_prefix))
    [port] = free_ports(1)
    flow = running.start("catalog_search", health_port=port)
    eventually(lambda: all(is_indexed(own, sku) for sku in skus), what="the index")
    assert_healthy(port)
    assert flow.end(signal_number) < TO_END_S
    assert flow.outcome() == 0, flow.text
    assert read_so_far("catalog_search", running.recovery_folder) == {
        (m.topic, m.partition): m.offset + 1 for m in messages
    }
    assert [event["event"] for event in flow.events] == ["starting"]
    assert "Traceback" not in flow.text
    assert "panicked" not in flow.text
    [(state,)] = database.ask("SELECT state FROM sync.status ORDER BY id DESC LIMIT 1")
    assert state == "stopped"


def test_a_stop_while_elasticsearch_was_never_there(own: Settings, log: Log, running: Running) -> None:
    produce(log, own, "never")
    [port, closed] = free_ports(2)
    flow = running.start(
        "catalog_search", elasticsearch_url=f"http://127.0.0.1:{closed}", health_port=port, ready_within_s=1
    )
    flow.await_event("holding the place", error="Elasticsearch does not answer")
    eventually(lambda: get(port, "/ready")[0] == 503, what="not ready")
    assert get(port, "/live")[0] == 200
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text
    assert "Traceback" not in flow.text
    again = running.start("catalog_search")
    eventually(lambda: is_indexed(own, "never"), what="the change that was held")
    again.end(signal.SIGTERM)


def test_a_stop_while_elasticsearch_has_gone_away(own: Settings, log: Log, running: Running) -> None:
    with Road(port_of(own.elasticsearch_url.get_secret_value())) as road:
        produce(log, own, "before")
        flow = running.start("catalog_search", elasticsearch_url=f"http://{road.address}")
        eventually(lambda: is_indexed(own, "before"), what="the index")
        road.close()
        produce(log, own, "held")
        flow.await_event("holding the place", error="Elasticsearch does not answer")
        assert flow.end(signal.SIGTERM) < TO_END_S
        assert flow.outcome() == 0, flow.text
        assert not is_indexed(own, "held")
        road.open()
        again = running.start("catalog_search")
        eventually(lambda: is_indexed(own, "held"), what="the change that was held")
        assert again.end(signal.SIGTERM) < TO_END_S


def test_a_stop_while_elasticsearch_has_never_answered(own: Settings, running: Running) -> None:
    with Road(port_of(own.elasticsearch_url.get_secret_value())) as road:
        road.silence()
        flow = running.start("catalog_search", elasticsearch_url=f"http://{road.address}")
        eventually(lambda: road.swallowed_bytes, what="the first question")
        assert flow.end(signal.SIGTERM) < TO_END_S
        assert flow.outcome() == 0, flow.text
        assert "Traceback" not in flow.text


@pytest.mark.parametrize("changes", [1, 1_000], ids=["in the worker", "in the background"])
def test_a_stop_while_elasticsearch_has_ceased_to_answer(
    own: Settings, log: Log, running: Running, changes: int
) -> None:
    with Road(port_of(own.elasticsearch_url.get_secret_value())) as road:
        produce(log, own, f"answered-{changes}")
        flow = running.start("catalog_search", elasticsearch_url=f"http://{road.address}")
        eventually(lambda: is_indexed(own, f"answered-{changes}"), what="the index")
        road.silence()
        skus = [f"silence-{changes}-{n}" for n in range(changes)]
        produce(log, own, *skus)
        eventually(lambda: road.swallowed_bytes, what="a write")
        assert flow.end(signal.SIGTERM) < TO_END_S
        assert flow.outcome() == 0, flow.text
        assert "Traceback" not in flow.text
        assert not is_indexed(own, skus[-1])
    again = running.start("catalog_search")
    eventually(lambda: all(is_indexed(own, sku) for sku in skus[-3:]), what="the changes that were held")
    again.end(signal.SIGTERM)


def test_elasticsearch_that_comes_later_is_waited_for(own: Settings, log: Log, running: Running) -> None:
    with Road(port_of(own.elasticsearch_url.get_secret_value()), is_open=False) as road:
        produce(log, own, "later")
        flow = running.start("catalog_search", elasticsearch_url=f"http://{road.address}")
        flow.await_event("holding the place", doing="asking the store who it is")
        road.open()
        eventually(lambda: is_indexed(own, "later"), what="the index")
        assert flow.end(signal.SIGTERM) < TO_END_S


def test_a_missing_index_is_told_before_there_is_a_change(running: Running) -> None:
    [closed] = free_ports(1)
    flow = running.start(
        "catalog_search", search_alias="own-nowhere", kafka_bootstrap_servers=f"127.0.0.1:{closed}"
    )
    assert flow.outcome() == 1, flow.text
    assert_one_line(flow.text, "MissingResource: the alias own-nowhere does not exist; run: syncline setup")


def test_a_stop_while_kafka_was_never_there(running: Running) -> None:
    [closed] = free_ports(1)
    flow = running.start("catalog_search", kafka_bootstrap_servers=f"127.0.0.1:{closed}")
    flow.await_event("holding the place", doing="asking Kafka about its topics")
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text


def test_a_stop_while_postgres_cannot_take_a_bad_message(
    own: Settings, log: Log, running: Running, database: Database
) -> None:
    dsn = own.postgres_dsn.get_secret_value()
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0), is_open=False) as road:
        log.append([record(PRODUCT.topic(own.topic_prefix), b"bad", b"{")])
        flow = running.start("catalog_search", postgres_dsn=conninfo.make_conninfo(dsn, port=road.port))
        flow.await_event("holding the place", doing="sync.quarantine")
        assert flow.end(signal.SIGTERM) < TO_END_S
        assert flow.outcome() == 0, flow.text
    assert database.ask("SELECT count(*) FROM sync.quarantine") == [(0,)]
    again = running.start("catalog_search")
    eventually(
        lambda: database.ask("SELECT message_value FROM sync.quarantine") == [(b"{",)], what="the quarantine"
    )
    again.end(signal.SIGTERM)


def test_a_relay_ends_when_told_to_also_while_kafka_is_away(running: Running, database: Database) -> None:
    flow = running.start("outbox_relay")
    flow.await_event("the outbox is ours", schema="warehouse")
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text

    [closed] = free_ports(1)
    database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('A')")
    flow = running.start("outbox_relay", kafka_bootstrap_servers=f"127.0.0.1:{closed}")
    flow.await_event("holding the place")
    assert flow.end(signal.SIGTERM) < TO_END_S + 1  # one try to fence may be under way
    assert flow.outcome() == 0, flow.text
    assert len(database.outbox("catalog")) == 1


FATAL: dict[str, tuple[str, dict[str, object], str]] = {
    "missing topic": (
        "catalog_search",
        {"topic_prefix": "own-nowhere"},
        "MissingResource: Kafka has no topic",
    ),
    "missing index": (
        "catalog_search",
        {"search_alias": "own-nowhere"},
        "MissingResource: the alias own-nowhere does not exist; run: syncline setup",
    ),
    "no URL": (
        "catalog_search",
        {"elasticsearch_url": "http://localhost"},
        "Misconfigured: elasticsearch_url: URL must include",
    ),
    "no cache": ("catalog_search", {"redis_url": "localhost"}, "Misconfigured: redis_url: "),
    "no such level": ("catalog_search", {"log_level": "LOUD"}, "Misconfigured: log_level: 'LOUD'"),
    "topics of the relay": (
        "outbox_relay",
        {"topic_prefix": "own-nowhere"},
        "MissingResource: publishing as",
    ),
}


@pytest.mark.parametrize(("flow_name", "changed", "told"), FATAL.values(), ids=FATAL)
def test_what_only_a_person_can_mend_ends_the_flow_with_one_line_and_a_record(
    own: Settings,
    log: Log,
    running: Running,
    database: Database,
    flow_name: str,
    changed: dict[str, object],
    told: str,
) -> None:
    produce(log, own, "fatal")
    flow = running.start(flow_name, **changed)
    assert flow.outcome() == 1, flow.text
    assert_one_line(flow.text, told)
    records = database.ask("SELECT flow, error FROM sync.status WHERE state = 'failed'")
    assert [flow for flow, _ in records] == [flow_name]
    assert records[0][1].startswith(told)


@pytest.mark.parametrize("flow_name", ["catalog_search", "customer_profiles", "outbox_relay"])
def test_a_wrong_password_ends_the_flow_with_one_line(
    own: Settings, log: Log, running: Running, flow_name: str
) -> None:
    produce(log, own, "password")
    wrong = conninfo.make_conninfo(own.postgres_dsn.get_secret_value(), password="wrong")
    flow = running.start(flow_name, postgres_dsn=wrong)
    assert flow.outcome() == 1, flow.text
    assert_one_line(flow.text, "BadCredentials: PostgreSQL refuses the log-in")
    assert "password authentication failed for user" in flow.text


def test_a_health_port_that_is_taken_is_told(own: Settings, running: Running) -> None:
    port = port_of(own.elasticsearch_url.get_secret_value())
    flow = running.start("catalog_search", health_port=port)
    assert flow.outcome() == 1
    assert_one_line(flow.text, f"Misconfigured: health_port: {port} cannot be opened")
