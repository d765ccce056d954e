"""Profiles in a real table: typed columns, each write a compare-and-set, each failure told by its class.

What all stores have in common is in ``tests/model/test_store.py``.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from psycopg import conninfo

from sinks import postgres_documents
from sinks.postgres_documents import PostgresStore, install_profiles
from syncline.model.errors import MissingResource, Unavailable
from syncline.model.store import Outcome, Token, Write
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.own import own_database
from tests.road import Road
from tests.waiting import eventually

ANNA, BOB, CLEO = (str(UUID(int=number)) for number in (1, 2, 3))


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    install_profiles(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE profiles.customer_documents RESTART IDENTITY")
    return dsn


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(dsn: str) -> Iterator[PostgresStore]:
    store = PostgresStore(dsn, "tests")
    yield store
    store.close()


def profile(customer_id: str, *, hidden: bool = False, **fields: object) -> bytes:
    sync = {"version": 1, "hidden": hidden, "entities": {}}
    return orjson.dumps({"id": customer_id, "_sync": sync, **fields})


def create(store: PostgresStore, customer_id: str, *, hidden: bool = False, **fields: object) -> Token:
    (result,) = store.write([Write(customer_id, profile(customer_id, hidden=hidden, **fields), None)])
    assert result.token is not None, result
    return result.token


def named(document_id: str, name: str, expected: Token | None) -> Write:
    return Write(document_id, profile(document_id, full_name=name), expected)


def names(database: psycopg.Connection[Any]) -> dict[str, str]:
    rows = database.execute("SELECT id::text, full_name FROM profiles.customer_documents")
    return dict(rows.fetchall())


FIELDS: dict[str, Any] = {
    "email": "anna@example.org",
    "phone": "+49 30 1",
    "full_name": "Anna 🦆",
    "address": {"street": "Main St 1", "lines": [1, None, 0.5]},
    "marketing_consent": False,
    "consent_at": "2026-01-01T12:00:00.000001Z",
    "notes": "",
}


def test_each_field_has_its_column_and_is_read_as_it_was_written(
    store: PostgresStore, database: psycopg.Connection[Any]
) -> None:
    create(store, ANNA, **FIELDS)
    [row] = database.execute(
        "SELECT id, email, phone, full_name, address, marketing_consent, consent_at, notes, _sync"
        " FROM profiles.customers"
    ).fetchall()
    consent_at = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
    sync = {"version": 1, "hidden": False, "entities": {}}
    assert row == (UUID(ANNA), *{**FIELDS, "consent_at": consent_at}.values(), sync)
    assert store.read([ANNA])[ANNA].document == {"id": ANNA, **FIELDS, "_sync": sync}


def test_no_value_is_none(store: PostgresStore) -> None:
    create(store, ANNA, email=None)
    document = store.read([ANNA])[ANNA].document
    assert {document.pop(field) for field in FIELDS} == {None}
    assert set(document) == {"id", "_sync"}


def test_readers_see_what_is_not_hidden(store: PostgresStore, database: psycopg.Connection[Any]) -> None:
    create(store, ANNA)
    hidden = create(store, BOB, hidden=True)
    shown = "SELECT id::text FROM profiles.customers ORDER BY id"
    assert database.execute(shown).fetchall() == [(ANNA,)]
    assert set(store.read([ANNA, BOB])) == {ANNA, BOB}
    store.write([Write(BOB, profile(BOB), hidden)])
    assert database.execute(shown).fetchall() == [(ANNA,), (BOB,)]


def test_a_value_that_does_not_fit_spares_the_others_and_is_told(
    store: PostgresStore, database: psycopg.Connection[Any]
) -> None:
    ids = [str(UUID(int=number)) for number in range(100)]
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        ids[3]: ({"marketing_consent": "perhaps"}, 'invalid input syntax for type boolean: "perhaps"'),
        ids[4]: ({"consent_at": "2026-02-30"}, "date/time field value out of range"),
        ids[50]: ({"notes": "a\0b"}, "\\u0000 cannot be converted to text"),
        ids[99]: ({"_sync": None}, 'null value in column "_sync"'),
    }
    writes = [Write(id_, profile(id_, **wrong.get(id_, ({},))[0]), None) for id_ in ids]
    results = dict(zip(ids, store.write(writes), strict=True))
    assert {id_ for id_, result in results.items() if result.outcome is Outcome.REFUSED} == set(wrong)
    for id_, (_, reason) in wrong.items():
        assert reason in results[id_].reason
    written = {id_ for id_, result in results.items() if result.outcome is Outcome.WRITTEN}
    assert set(names(database)) == written == set(ids) - set(wrong)


def test_a_body_that_is_no_document_is_refused(store: PostgresStore) -> None:
    results = store.write([Write(ANNA, b"{}", None), Write(BOB, b"[1]", None), Write(CLEO, b"{", None)])
    assert [result.outcome for result in results] == [Outcome.REFUSED] * 3
    assert all(result.reason for result in results)


@pytest.mark.parametrize(
    "document_id", ["", "SKU-1", ANNA.replace("-", ""), UUID(int=2**128 - 1).urn[9:].upper()]
)
def test_an_id_in_another_form_is_refused_and_found_nowhere(store: PostgresStore, document_id: str) -> None:
    other, anna = store.write([Write(document_id, profile(ANNA), None), Write(ANNA, profile(ANNA), None)])
    assert (other.outcome, anna.outcome) == (Outcome.REFUSED, Outcome.WRITTEN)
    assert "no UUID" in other.reason
    assert list(store.read([document_id, ANNA])) == [ANNA]
    assert store.read([document_id]) == {}


def test_more_than_one_statement_takes_is_written_in_order(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [str(UUID(int=number)) for number in range(300)]
    create(store, ids[150])
    monkeypatch.setattr(postgres_documents, "STATEMENT_MAX_BYTES", 2_000)
    outcomes = [result.outcome for result in store.write([Write(id_, profile(id_), None) for id_ in ids])]
    assert outcomes.pop(150) is Outcome.ALREADY_NEWER
    assert set(outcomes) == {Outcome.WRITTEN}
    assert sorted(store.read(ids)) == ids


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rivals wait for each other however busy the machine is."""
    monkeypatch.setattr(postgres_documents, "LOCK_TIMEOUT_MS", 30_000)


@pytest.mark.usefixtures("patient")
def test_of_many_that_replace_one_state_at_once_one_does(
    store: PostgresStore, database: psycopg.Connection[Any]
) -> None:
    standing = {id_: create(store, id_) for id_ in (ANNA, BOB, CLEO)}
    barrier = threading.Barrier(5)

    def replace(name: str) -> list[Outcome]:
        writes = [named(id_, name, token) for id_, token in standing.items()]
        barrier.wait(30)
        return [result.outcome for result in store.write(writes)]

    with ThreadPoolExecutor(5) as threads:
        outcomes = dict(zip("abcde", threads.map(replace, "abcde"), strict=True))
    for number, id_ in enumerate(standing):
        winners = [name for name, told in outcomes.items() if told[number] is Outcome.WRITTEN]
        assert winners == [names(database)[id_]]
        assert sum(told[number] is Outcome.ALREADY_NEWER for told in outcomes.values()) == 4


@pytest.mark.usefixtures("patient")
def test_of_many_that_create_one_at_once_one_does(store: PostgresStore) -> None:
    barrier = threading.Barrier(5)

    def make(name: str) -> Outcome:
        barrier.wait(30)
        (result,) = store.write([named(ANNA, name, None)])
        return result.outcome

    with ThreadPoolExecutor(5) as threads:
        outcomes = list(threads.map(make, "abcde"))
    assert sorted(outcomes) == [Outcome.ALREADY_NEWER] * 4 + [Outcome.WRITTEN]


def wait_for_lock(database: psycopg.Connection[Any]) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    eventually(lambda: database.execute(waiting).fetchall(), what="the wait for a lock")


@pytest.mark.usefixtures("patient")
def test_a_deadlock_is_to_be_tried_again(dsn: str, database: psycopg.Connection[Any]) -> None:
    """The store locks one row and waits for the other, which somebody holds who then asks for the first."""
    impatient = PostgresStore(conninfo.make_conninfo(dsn, options="-c deadlock_timeout=3s"), "tests")
    tokens = {id_: create(impatient, id_) for id_ in (ANNA, BOB)}
    writes = [named(id_, "new", token) for id_, token in tokens.items()]
    lock = "SELECT FROM profiles.customer_documents WHERE id = %s FOR UPDATE"
    with psycopg.connect(dsn) as other, ThreadPoolExecutor(2) as threads:
        other.execute("SET deadlock_timeout = '1h'")
        other.execute(lock, (BOB,))
        writing = threads.submit(impatient.write, writes)
        wait_for_lock(database)
        locking = threads.submit(other.execute, lock, (ANNA,))
        results = writing.result(30)
        assert [result.outcome for result in results] == [Outcome.LOCKED] * 2
        assert {result.reason.partition(":")[0] for result in results} == {"deadlock detected"}
        locking.result(30)
        other.rollback()
    assert [result.outcome for result in impatient.write(writes)] == [Outcome.WRITTEN] * 2
    impatient.close()


def test_rows_that_somebody_keeps_locked_spare_the_others(
    store: PostgresStore, dsn: str, database: psycopg.Connection[Any]
) -> None:
    ids = [str(UUID(int=number)) for number in range(100)]
    tokens = {id_: create(store, id_) for id_ in ids[:50]}
    writes = [named(id_, "new", tokens.get(id_)) for id_ in ids]
    locked = {ids[7], ids[49]}
    with psycopg.connect(dsn) as other:
        other.execute(
            "SELECT FROM profiles.customer_documents WHERE id::text = ANY(%s) FOR UPDATE", ([*locked],)
        )
        results = dict(zip(ids, store.write(writes), strict=True))
        assert {id_ for id_, result in results.items() if result.outcome is Outcome.LOCKED} == locked
        assert {results[id_].reason for id_ in locked} == {"canceling statement due to lock timeout"}
        written = {id_ for id_, result in results.items() if result.outcome is Outcome.WRITTEN}
        assert written == set(ids) - locked
        assert {id_ for id_, name in names(database).items() if name == "new"} == written
    left = [write for write in writes if write.document_id in locked]
    assert [result.outcome for result in store.write(left)] == [Outcome.WRITTEN] * 2


def test_a_row_that_somebody_else_is_creating_spares_the_others(
    store: PostgresStore, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_documents, "LOCK_TIMEOUT_MS", 20)
    writes = [named(id_, "new", None) for id_ in (ANNA, BOB, CLEO)]
    with psycopg.connect(dsn) as other:
        other.execute(
            "INSERT INTO profiles.customer_documents (id, _sync) VALUES (%s, '{\"hidden\": true}')", (BOB,)
        )
        outcomes = [result.outcome for result in store.write(writes)]
        assert outcomes == [Outcome.WRITTEN, Outcome.LOCKED, Outcome.WRITTEN]
    assert store.write(writes[1:2])[0].outcome is Outcome.ALREADY_NEWER


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_a_table_that_somebody_keeps_locked_is_the_whole_target(
    store: PostgresStore, dsn: str, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(postgres_documents, "LOCK_TIMEOUT_MS", 20)
    writes = [named(ANNA, "new", create(store, ANNA)), named(BOB, "new", None)]
    with psycopg.connect(dsn) as other:
        other.execute(f"LOCK TABLE profiles.customer_documents IN {mode} MODE".encode())
        with pytest.raises(Unavailable, match=r"waiting for.*lock timeout"):
            store.write(writes)
    assert [result.outcome for result in store.write(writes)] == [Outcome.WRITTEN] * 2


def test_identity_is_that_of_the_very_table(store: PostgresStore, dsn: str, own: Settings) -> None:
    first = store.identity()
    token = create(store, ANNA)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM FULL profiles.customer_documents")
        assert store.identity() == first
        connection.execute("DROP SCHEMA profiles CASCADE")
    install_profiles(dsn)
    assert store.identity() != first
    again = create(store, ANNA)
    assert again.sequence_number == token.sequence_number
    assert store.write([named(ANNA, "old", token)])[0].outcome is Outcome.ALREADY_NEWER
    with own_database(own.postgres_dsn.get_secret_value(), "own_sinks_copy") as copy:
        install_profiles(copy)
        other = PostgresStore(copy, "tests")
        assert other.identity() not in {first, store.identity()}
        other.close()


def test_a_table_that_is_missing_is_told_and_can_be_made_twice(own: Settings) -> None:
    with own_database(own.postgres_dsn.get_secret_value(), "own_sinks_bare") as bare:
        store = PostgresStore(bare, "tests")
        for call in (
            store.identity,
            lambda: store.read([ANNA]),
            lambda: store.write([named(ANNA, "", None)]),
        ):
            with pytest.raises(MissingResource, match=r"profiles.*run: syncline setup"):
                call()
        install_profiles(bare)
        install_profiles(bare)
        create(store, ANNA)
        store.close()


def test_a_server_that_went_away_and_came_back_is_found_again_at_once(dsn: str) -> None:
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0)) as road:
        store = PostgresStore(conninfo.make_conninfo(dsn, port=road.port), "tests")
        barrier = threading.Barrier(4)

        def read(_: int) -> None:
            barrier.wait(30)
            store.read([ANNA])

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read, range(4)))
        road.close()
        for _ in range(2):
            with pytest.raises(Unavailable):
                store.read([ANNA])
        road.open()
        assert store.read([ANNA]) == {}
        store.close()


def test_a_stop_lets_go_of_a_server_that_hangs(dsn: str) -> None:
    stop = Stop()
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0)) as road, ThreadPoolExecutor(1) as threads:
        store = PostgresStore(conninfo.make_conninfo(dsn, port=road.port), "tests", stop)
        store.read([ANNA])
        road.silence()
        reading = threads.submit(store.read, [ANNA])
        eventually(lambda: road.swallowed_bytes, what="the question")
        stop.request()
        with pytest.raises(Unavailable, match="no server is waited for"):
            reading.result(30)
        store.close()
