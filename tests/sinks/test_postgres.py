"""Rows of what became of changes: whole, each once, and the place held while the server is away."""

import threading
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import conninfo
from structlog.testing import capture_logs

from sinks.conflict_audit import conflict_audit
from sinks.postgres import STATEMENT_MAX_BYTES, PostgresWriter, _arrays, install_sync_schema
from sinks.quarantine import quarantine
from syncline.circuit import Circuits
from syncline.model.decision import Conflict, ConflictKind, Side
from syncline.model.errors import BadCredentials, MissingResource, Unavailable, Undecodable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import NOON_US, change_message, change_of, product, product_part
from tests.own import own_database
from tests.road import Road
from tests.waiting import eventually


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE sync.quarantine, sync.conflicts, sync.status")
    return dsn


@pytest.fixture
def road(dsn: str) -> Iterator[Road]:
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0)) as road:
        yield road


def through(road: Road, dsn: str) -> str:
    return conninfo.make_conninfo(dsn, port=road.port)


def ask(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def bad_message(
    value: bytes | None = b"{", offset: int = 0, key: bytes | None = b"SKU-1", partition: int = 0
) -> Message:
    return Message("syncline.catalog.product", partition, offset, key, value, (), NOON_US, NOON_US)


def failure(message: Message, reason: str = "value: this is not JSON") -> Failure:
    return Failure("decode", message, Undecodable(reason))


def put_aside(dsn: str, *failures: Failure) -> None:
    sink = quarantine("tests", dsn, Circuits(Stop()).postgres)
    sink.write(failures)
    sink.close()


def seen(dsn: str) -> list[Any]:
    return ask(dsn, 'SELECT "offset", count, state FROM sync.quarantine ORDER BY id')


def test_a_message_lies_in_quarantine_as_it_came(dsn: str) -> None:
    value = bytes(range(256)) * 3
    headers = (("id", b"\xff\x00"), ("empty", b""), ("none", None), ("🦆", "é".encode()))
    message = bad_message(value, 7, b"\x00key\xff")._replace(headers=headers)
    put_aside(dsn, failure(message, "name: 'a\0b' and 🦆"))
    [(raw_key, raw_value, kept, reason, *position)] = ask(
        dsn,
        'SELECT message_key, message_value, headers, reason, topic, partition, "offset", error, step, flow, '
        "state, count FROM sync.quarantine",
    )
    assert (raw_key, raw_value) == (b"\x00key\xff", value)
    assert [(name, None if raw is None else bytes.fromhex(raw)) for name, raw in kept] == list(headers)
    assert reason == "name: 'a\\0b' and 🦆"
    assert position == ["syncline.catalog.product", 0, 7, "Undecodable", "decode", "tests", "open", 1]


def test_no_value_and_no_key_stay_none(dsn: str) -> None:
    put_aside(dsn, failure(bad_message(None, key=None)))
    assert ask(dsn, "SELECT message_key, message_value FROM sync.quarantine") == [(None, None)]


def test_a_change_that_was_decoded_is_named(dsn: str) -> None:
    change = change_of(change_message("product", product("SKU-9"), 41))
    put_aside(dsn, Failure("apply", change.message, Undecodable("whatever"), change))
    assert ask(dsn, "SELECT entity_type, entity_id, version FROM sync.quarantine") == [
        ("product", "SKU-9", [1, 41, 0, 0])
    ]


def test_the_same_bytes_at_a_later_place_are_counted_and_a_replay_is_not(dsn: str) -> None:
    first, later = failure(bad_message(offset=5)), failure(bad_message(offset=9))
    put_aside(dsn, first)
    put_aside(dsn, first)
    assert seen(dsn) == [(5, 1, "open")]
    put_aside(dsn, later)
    assert seen(dsn) == [(9, 2, "open")]
    put_aside(dsn, first)
    put_aside(dsn, first, later)
    assert seen(dsn) == [(9, 2, "open")], "a flow that lost its snapshots reads them all again"


def test_the_same_bytes_twice_in_one_batch_are_two(dsn: str) -> None:
    batch = [failure(bad_message(offset=offset)) for offset in (3, 4, 8)]
    put_aside(dsn, *batch[:2])
    assert seen(dsn) == [(4, 2, "open")]
    put_aside(dsn, *batch)
    assert seen(dsn) == [(8, 3, "open")]


def test_other_bytes_another_key_and_another_partition_are_told_apart(dsn: str) -> None:
    put_aside(
        dsn, failure(bad_message(b"{")), failure(bad_message(b"[")), failure(bad_message(b"{", key=b"SKU-2"))
    )
    assert seen(dsn) == [(0, 1, "open")] * 3
    put_aside(dsn, failure(bad_message(b"{", partition=1)))
    assert sorted(seen(dsn)) == [(0, 1, "open"), (0, 1, "open"), (0, 2, "open")]


def test_what_a_person_settled_is_open_again_only_when_it_comes_anew(dsn: str) -> None:
    put_aside(dsn, failure(bad_message(offset=5)))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE sync.quarantine SET state = 'discarded'")
    put_aside(dsn, failure(bad_message(offset=5)))
    assert seen(dsn) == [(5, 1, "discarded")]
    put_aside(dsn, failure(bad_message(offset=6)))
    assert seen(dsn) == [(6, 2, "open")]


def test_many_large_messages_at_once(dsn: str) -> None:
    """They go in several statements: PostgreSQL takes no array of 256 MiB."""
    size = STATEMENT_MAX_BYTES // 8
    arrays = list(_arrays([{"value": bytes(size).hex()}] * 12))
    assert [len(orjson.loads(array)) for array in arrays] == [3, 3, 3, 3]
    put_aside(dsn, *(failure(bad_message(b"%03d" % n + bytes(size), n)) for n in range(12)))
    assert ask(dsn, "SELECT count(*), min(length(message_value)) FROM sync.quarantine") == [(12, size + 3)]


def test_a_conflict_is_audited_once(dsn: str) -> None:
    part = product_part(4, name="🦆", description="x" * 10_000)
    change = part.change
    arrived = Side(
        "catalog", tuple(change.version), change.content_hash, change.fields, change.message.position
    )
    conflict = Conflict(
        ConflictKind.VERSION,
        change.entity,
        "",
        known=Side("catalog", (1, 4, 0, 0), "abc"),
        arrived=arrived,
        event_id=change.event_id,
        won=True,
        rule="content_hash",
    )
    mirrored = conflict._replace(known=arrived, arrived=conflict.known, won=False)
    for _ in range(2):
        sink = conflict_audit("tests", dsn, Circuits(Stop()).postgres)
        other = conflict._replace(won=False, kind=ConflictKind.TIMESTAMP, field="name")
        sink.write([conflict, conflict, mirrored, other])
        sink.close()
    rows = ask(
        dsn,
        "SELECT kind, field, entity_type, entity_id, known_version, known_hash, arrived_version, "
        "arrived_hash, arrived_value ->> 'name', arrived_position, rule, winner "
        "FROM sync.conflicts ORDER BY kind DESC",
    )
    version = [1, 4, 0, 0]
    same = ("product", "SKU-1", version, "abc", version, change.content_hash, "🦆", change.message.position)
    assert rows == [
        ("version", "", *same, "content_hash", "arrived"),
        ("timestamp", "name", *same, "content_hash", "known"),
    ]


def test_the_place_is_held_until_the_server_is_back(dsn: str, road: Road) -> None:
    sink = quarantine("tests", through(road, dsn), Circuits(Stop()).postgres)
    sink.write([failure(bad_message(offset=1))])
    road.close()
    writing = threading.Thread(target=sink.write, args=([failure(bad_message(b"[", 2))],))
    with capture_logs() as told:
        writing.start()
        eventually(lambda: sum(line["event"] == "holding the place" for line in told) >= 2, what="two tries")
        assert writing.is_alive()
        assert ask(dsn, "SELECT count(*) FROM sync.quarantine") == [(1,)]
        road.open()
        writing.join(30)
    assert seen(dsn) == [(1, 1, "open"), (2, 1, "open")]
    sink.close()


def test_a_stop_lets_go_of_the_place(dsn: str, road: Road) -> None:
    road.close()
    stop = Stop()
    stop.request()
    with pytest.raises(Unavailable, match="PostgreSQL does not answer"):
        quarantine("tests", through(road, dsn), Circuits(stop).postgres).write([failure(bad_message())])


def test_a_wrong_password_is_told_and_not_tried_again(dsn: str) -> None:
    with pytest.raises(BadCredentials, match="password authentication failed"):
        quarantine("tests", conninfo.make_conninfo(dsn, password="wrong"), Circuits(Stop()).postgres).write(
            [failure(bad_message())]
        )


def test_a_schema_that_is_missing_is_told_and_can_be_made_twice(settings: Settings) -> None:
    with own_database(settings.postgres_dsn.get_secret_value(), "own_sinks_bare") as bare:
        sink = quarantine("tests", bare, Circuits(Stop()).postgres)
        with pytest.raises(MissingResource, match=r"writing to sync\.quarantine.*run: syncline setup"):
            sink.write([failure(bad_message())])
        install_sync_schema(bare)
        install_sync_schema(bare)
        sink.write([failure(bad_message())])
        sink.close()
        assert seen(bare) == [(0, 1, "open")]


def test_a_batch_is_written_as_a_whole_or_not_at_all(dsn: str) -> None:
    writer = PostgresWriter(dsn, "status", "tests")
    good = {"flow": "f", "run": "00000000-0000-0000-0000-000000000000", "worker": "0", "state": "running"}
    full = {**good, "counts": {}, "positions": {}, "watermarks": {}, "latency_ms": {}, "histograms": {}}
    with pytest.raises(Exception, match="state"):
        writer.write([full, {**full, "state": "nonsense"}])
    assert ask(dsn, "SELECT count(*) FROM sync.status") == [(0,)]
    writer.write([full])
    assert ask(dsn, "SELECT flow, state FROM sync.status") == [("f", "running")]
    writer.close()
