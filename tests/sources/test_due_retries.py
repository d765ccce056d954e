"""What is due of the retry queue, and nothing else, goes into Syncline's own outbox, once."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from sources import due_retries
from sources.due_retries import DueRetries
from syncline.settings import Settings

ENTRY = """
INSERT INTO sync.retries (
    flow, step, state, error, reason, entity_type, entity_id, version, turned_back, next_attempt_at,
    topic, partition, "offset", appended_at_us, message_key, message_value, headers, fingerprint
) VALUES (
    'catalog_search', 'apply', %s, 'Postponed', 'locked', 'price', 'EUR:SKU-1', '[1, 7, 0, 0]', 3,
    clock_timestamp() + %s, 't', 2, 9, 77, 'SKU-1', '{}', '[["id", "00ff"]]', gen_random_uuid()::text::bytea
) RETURNING id
"""
PAST, SOON = timedelta(seconds=-1), timedelta(minutes=1)


@pytest.fixture
def connection(own: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(own.postgres_dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute("TRUNCATE sync.retries, sync.outbox")
        yield connection
        connection.execute("TRUNCATE sync.retries, sync.outbox")


def put(connection: psycopg.Connection[Any], state: str, due: timedelta) -> int:
    [(entry,)] = connection.execute(ENTRY, (state, due)).fetchall()
    return int(entry)


def sent(connection: psycopg.Connection[Any]) -> list[Any]:
    query = "SELECT (payload ->> 'retry_id')::bigint FROM sync.outbox ORDER BY seq"
    return [entry for (entry,) in connection.execute(query)]


def test_what_is_due_is_sent_whole_and_once(connection: psycopg.Connection[Any]) -> None:
    entry = put(connection, "waiting", PAST)
    put(connection, "waiting", SOON)
    for _ in range(2):
        DueRetries().send(connection)
    columns = "aggregatetype, aggregateid, type, version, payload"
    [(*head, version, payload)] = connection.execute(f"SELECT {columns} FROM sync.outbox").fetchall()
    assert head == ["reentry", "SKU-1", "retry"]
    assert payload == {
        "kind": "retry",
        "flow": "catalog_search",
        "retry_id": entry,
        "turned_back": 3,
        "topic": "t",
        "partition": 2,
        "offset": 9,
        "appended_at_us": 77,
        "key": b"SKU-1".hex(),
        "value": b"{}".hex(),
        "headers": [["id", "00ff"]],
        "by": "syncline",
        "version": version,
    }
    [(state, attempt)] = connection.execute(f"SELECT state, attempt FROM sync.retries WHERE id = {entry}")
    assert (state, attempt) == ("sent", version)


@pytest.mark.parametrize("state", ["done", "overtaken", "quarantined", "escalated", "discarded"])
def test_what_is_closed_or_waits_for_a_person_is_not_sent(
    connection: psycopg.Connection[Any], state: str
) -> None:
    put(connection, state, PAST)
    DueRetries().send(connection)
    assert sent(connection) == []


def test_what_nothing_was_heard_of_is_sent_again_after_the_lease(
    connection: psycopg.Connection[Any],
) -> None:
    entry = put(connection, "waiting", PAST)
    DueRetries(lease=timedelta(0)).send(connection)
    DueRetries().send(connection)
    DueRetries().send(connection)
    assert sent(connection) == [entry, entry]


def test_it_looks_at_most_once_a_second(connection: psycopg.Connection[Any]) -> None:
    due = DueRetries()
    due.send(connection)
    put(connection, "waiting", PAST)
    due.send(connection)
    assert sent(connection) == []


def test_a_row_that_a_person_works_on_is_left_alone_and_the_rest_is_bounded(
    connection: psycopg.Connection[Any], own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_retries, "MOST_AT_ONCE", 2)
    entries = [put(connection, "waiting", timedelta(seconds=-10 + number)) for number in range(4)]
    with psycopg.connect(own.postgres_dsn.get_secret_value()) as other:
        other.execute("SELECT FROM sync.retries WHERE id = %s FOR UPDATE", (entries[0],))
        DueRetries().send(connection)
    assert sent(connection) == entries[1:3]


def test_it_tells_how_many_are_escalated(connection: psycopg.Connection[Any]) -> None:
    for _ in range(3):
        put(connection, "escalated", PAST)
    DueRetries().send(connection)
    assert REGISTRY.get_sample_value("syncline_retries_escalated") == 3
