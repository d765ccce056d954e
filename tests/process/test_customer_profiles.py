"""``customer_profiles`` as a process: PostgreSQL is its copy, and may be away or hang."""

import signal
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo, sql

from sinks.postgres import install_sync_schema
from syncline.flow_processes import free_ports
from syncline.model.message import Record
from syncline.policies.reentry import reentry_topic
from syncline.settings import Settings
from tests.customers import CUSTOMERS, row_message
from tests.log import Log, record
from tests.own import own_database
from tests.process.probes import TO_END_S, assert_healthy, assert_one_line, read_so_far
from tests.process.running import Running
from tests.road import Road
from tests.services.database import Database
from tests.waiting import eventually

NAME = "customer_profiles"


def produce(log: Log, own: Settings, count: int = 1) -> list[str]:
    """Say something of new customers, each by every writer; their ids."""
    ids = [str(uuid4()) for _ in range(count)]
    topics = CUSTOMERS.topics(own.topic_prefix)
    log.append(
        Record(topic, message.key, message.value, message.headers)
        for id_ in ids
        for topic, policy in topics.items()
        for message in [row_message(policy.producer, {"id": id_, "field_versions": {}}, 1)]
    )
    return ids


def are_shown(database: Database, ids: list[str]) -> bool:
    """Whether these customers have profiles that name all of their writers."""
    query = (
        "SELECT count(*) FROM profiles.customers WHERE id::text = ANY(%s) AND"
        " (SELECT count(*) FROM jsonb_object_keys(_sync -> 'entities')) = 3"
    )
    return database.ask(query, (ids,)) == [(len(ids),)]


@pytest.fixture
def road(own: Settings) -> Iterator[Road]:
    port = conninfo.conninfo_to_dict(own.postgres_dsn.get_secret_value())["port"]
    with Road(int(port or 0)) as road:
        yield road


def over(road: Road, own: Settings) -> str:
    return conninfo.make_conninfo(own.postgres_dsn.get_secret_value(), port=road.port)


def test_a_signal_ends_it_with_a_last_snapshot(
    own: Settings, log: Log, running: Running, database: Database
) -> None:
    ids = produce(log, own, 20)
    messages = log.read(*CUSTOMERS.topics(own.topic_prefix), reentry_topic(own.topic_prefix))
    [port] = free_ports(1)
    flow = running.start(NAME, health_port=port)
    eventually(lambda: are_shown(database, ids), what="the profiles")
    assert_healthy(port)
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text
    read = read_so_far(NAME, running.recovery_folder)
    assert read == {(message.topic, message.partition): message.offset + 1 for message in messages}
    assert [event["event"] for event in flow.events] == ["starting"]
    assert database.ask("SELECT flow, state FROM sync.status ORDER BY id DESC LIMIT 1") == [(NAME, "stopped")]


def test_a_stop_while_postgres_was_never_there(own: Settings, log: Log, running: Running, road: Road) -> None:
    produce(log, own)
    road.close()
    flow = running.start(NAME, postgres_dsn=over(road, own))
    flow.await_event("holding the place", error="PostgreSQL does not answer")
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text
    assert "Traceback" not in flow.text


def test_the_place_is_held_while_postgres_is_away(
    own: Settings, log: Log, running: Running, database: Database, road: Road
) -> None:
    flow = running.start(NAME, postgres_dsn=over(road, own))
    before = produce(log, own)
    eventually(lambda: are_shown(database, before), what="the profile")
    road.close()
    held = produce(log, own)
    flow.await_event("holding the place", doing="reading documents")
    road.open()
    eventually(lambda: are_shown(database, held), what="the change that was held")
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text


@pytest.mark.parametrize("is_good", [True, False], ids=["a profile", "a bad message"])
def test_a_stop_while_postgres_has_ceased_to_answer(
    own: Settings, log: Log, running: Running, database: Database, road: Road, *, is_good: bool
) -> None:
    flow = running.start(NAME, postgres_dsn=over(road, own))
    before = produce(log, own)
    eventually(lambda: are_shown(database, before), what="the profile")
    road.silence()
    held = produce(log, own) if is_good else []
    if not is_good:
        log.append([record(next(iter(CUSTOMERS.topics(own.topic_prefix))), b"bad", b"{")])
    eventually(lambda: road.swallowed_bytes, what="a question")
    assert flow.end(signal.SIGTERM) < TO_END_S
    assert flow.outcome() == 0, flow.text
    again = running.start(NAME)
    eventually(lambda: are_shown(database, held), what="the change that was held")
    waiting = "SELECT count(*) FROM sync.quarantine"
    eventually(lambda: database.ask(waiting) == [(0 if is_good else 1,)], what="the quarantine")
    again.end(signal.SIGTERM)


def test_a_missing_table_is_told_before_there_is_a_change(own: Settings, running: Running) -> None:
    [closed] = free_ports(1)
    with own_database(own.postgres_dsn.get_secret_value(), "own_process_bare") as bare:
        install_sync_schema(bare)
        flow = running.start(NAME, postgres_dsn=bare, kafka_bootstrap_servers=f"127.0.0.1:{closed}")
        assert flow.outcome() == 1, flow.text
        assert_one_line(flow.text, "MissingResource: looking at profiles.customer_documents: ")
        with psycopg.connect(bare) as connection:
            failed = sql.SQL("SELECT flow, error FROM sync.status WHERE state = 'failed'")
            [(name, error)] = connection.execute(failed).fetchall()
        assert (name, error.endswith("run: syncline setup")) == (NAME, True)
