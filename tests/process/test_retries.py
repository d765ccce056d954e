"""A customer's row that somebody keeps locked: the others arrive, and its changes come back by themselves
over the real road: ``sync.retries``, outbox, relay, Kafka, flow."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest

from syncline.model.errors import NotPossible
from syncline.monitor.status import read_status
from syncline.monitor.verification import verify
from syncline.settings import Settings
from tests.own import own_settings
from tests.process.running import Command, Flow, Running
from tests.services.database import Database
from tests.waiting import eventually

BY = ("--by", "ann")


@pytest.fixture(scope="module")
def own(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("retries")
    with own_settings(settings, "retries", redis_database=10, home=home) as own:
        yield own


@pytest.fixture
def running(own: Settings) -> Iterator[Running]:
    with Running(own) as running:
        yield running


@pytest.fixture
def relay(running: Running) -> Flow:
    return running.start("outbox_relay")


@pytest.fixture
def profiles(running: Running, relay: Flow) -> Flow:
    return running.start("customer_profiles")


@pytest.fixture
def database(own: Settings) -> Iterator[Database]:
    """Nothing waits yet."""
    with Database(own.postgres_dsn.get_secret_value()) as database:
        database._admin.execute("TRUNCATE sync.retries, sync.quarantine")
        yield database


def write(database: Database, customer: str, name: str) -> None:
    database.write(
        "customers",
        f"INSERT INTO customers.crm (id, full_name) VALUES ('{customer}', '{name}')"
        f" ON CONFLICT (id) DO UPDATE SET full_name = '{name}'",
    )


def new_customer(database: Database, name: str) -> str:
    customer = str(uuid4())
    write(database, customer, name)
    arrives(database, customer, name)
    return customer


def arrives(database: Database, customer: str, name: str) -> None:
    query = "SELECT full_name FROM profiles.customers WHERE id = %s"
    eventually(lambda: database.ask(query, (customer,)) == [(name,)], what=f"{name} in the copy")


def states(database: Database, customer: str) -> list[str]:
    query = "SELECT state FROM sync.retries WHERE entity_id = %s ORDER BY id"
    return [state for (state,) in database.ask(query, (customer,))]


def become(database: Database, customer: str, *expected: str) -> None:
    def they_are() -> bool:
        return states(database, customer) == [*expected]

    try:
        eventually(they_are, what=f"{expected}")
    except AssertionError as error:
        raise AssertionError(f"{states(database, customer)}") from error


def wait(database: Database, customer: str, name: str) -> None:
    """The change to this name is in the retry queue, whether it is just on its way or not."""
    query = """SELECT FROM sync.retries
        WHERE entity_id = %s AND state IN ('waiting', 'sent') AND position(%s::bytea IN message_value) > 0"""
    told = f'"{name}"'.encode()
    eventually(lambda: database.ask(query, (customer, told)) == [()], what=f"{name} in the retry queue")


@contextmanager
def locked(database: Database, customer: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.dsn) as other:
        lock = "SELECT FROM profiles.customer_documents WHERE id = %s FOR UPDATE"
        assert other.execute(lock, (customer,)).rowcount == 1
        yield other


def test_a_locked_row_holds_up_nobody_else_and_comes_back_by_itself(
    profiles: Flow, database: Database
) -> None:
    ann, bob = new_customer(database, "Ann"), new_customer(database, "Bob")
    with locked(database, ann):
        write(database, ann, "Anna")
        write(database, bob, "Rob")
        arrives(database, bob, "Rob")
        wait(database, ann, "Anna")
        new_customer(database, "Cleo")
        write(database, ann, "Annie")
        wait(database, ann, "Annie")
        [(error, reason)] = database.ask("SELECT DISTINCT error, reason FROM sync.retries")
        assert (error, "lock timeout" in reason) == ("Postponed", True)
        assert database.ask("SELECT full_name FROM profiles.customers WHERE id = %s", (ann,)) == [("Ann",)]
    arrives(database, ann, "Annie")
    eventually(lambda: {*states(database, ann)} <= {"done", "overtaken"}, what="the end of both")
    [_, last] = states(database, ann)
    assert last == "done"
    assert database.ask("SELECT count(*) FROM sync.quarantine") == [(0,)]


def test_a_newer_version_overtakes_what_waits(profiles: Flow, database: Database) -> None:
    ann = new_customer(database, "Ann")
    with locked(database, ann):
        write(database, ann, "Anna")
        wait(database, ann, "Anna")
        # Until the newer one is there.
        database._admin.execute("UPDATE sync.retries SET next_attempt_at = 'infinity', state = 'waiting'")
    write(database, ann, "Annie")
    arrives(database, ann, "Annie")
    database._admin.execute("UPDATE sync.retries SET next_attempt_at = now()")
    become(database, ann, "overtaken")
    arrives(database, ann, "Annie")


def test_what_no_retry_gets_in_is_escalated_and_a_person_sends_it_again(
    own: Settings, running: Running, relay: Flow, database: Database, command: Command
) -> None:
    running.start("customer_profiles", retry_attempts=1)
    ann, bob = new_customer(database, "Ann"), new_customer(database, "Bob")
    with locked(database, ann), locked(database, bob):
        write(database, ann, "Anna")
        write(database, bob, "Rob")
        become(database, ann, "escalated")
        become(database, bob, "escalated")
        [entry] = orjson.loads(command("retries", "list", "--entity", f"customer:{ann}", "--json"))
        assert (entry["state"], entry["turned_back"], entry["flow"]) == ("escalated", 2, "customer_profiles")
        assert f"customer:{ann}" in command("retries", "list", "--state", "escalated")
        whole = command("retries", "show", entry["id"])
        assert "Anna" in whole
        assert "lock timeout" in whole
        explained = command("explain", "customer", ann)
        assert f"waits in retries (entry {entry['id']}, turned back 2 times, escalated)" in explained
        [status] = [flow for flow in read_status(own).flows if flow.flow == "customer_profiles"]
        assert (status.retrying, status.escalated) == (0, 2)
        report = verify("customer_profiles", own)
        assert (report.differing, report.explained) == (0, 2)
    command("retries", "retry", entry["id"], *BY)
    arrives(database, ann, "Anna")
    become(database, ann, "done")
    [(entry_of_bob,)] = database.ask("SELECT id FROM sync.retries WHERE entity_id = %s", (bob,))
    assert "1 are due now" in command("retries", "retry", "--all", "--entity", f"customer:{bob}", *BY)
    become(database, bob, "done")
    with pytest.raises(NotPossible, match=f"entry {entry_of_bob} is done already"):
        command("retries", "retry", entry_of_bob, *BY)
    assert "Nothing is there" in command("retries", "list")


def test_what_is_discarded_does_not_come_back(profiles: Flow, database: Database, command: Command) -> None:
    ann = new_customer(database, "Ann")
    with locked(database, ann):
        write(database, ann, "Anna")
        wait(database, ann, "Anna")
        put_off = "UPDATE sync.retries SET next_attempt_at = now() + interval '1 hour' RETURNING id"
        [(entry,)] = database.ask(put_off)
        command("retries", "discard", entry, *BY, "--why", "a test")
    write(database, ann, "Annie")
    arrives(database, ann, "Annie")
    become(database, ann, "discarded")
    with pytest.raises(NotPossible, match="is discarded already by ann: a test"):
        command("retries", "retry", entry, *BY)
    with pytest.raises(NotPossible, match="give an ID, or --all"):
        command("retries", "retry", *BY)
    with pytest.raises(NotPossible, match="there is no entry 0"):
        command("retries", "show", 0)


def test_kills_of_flow_and_relay_lose_nothing(
    running: Running, profiles: Flow, relay: Flow, database: Database
) -> None:
    customers = [new_customer(database, f"old {number}") for number in range(5)]
    with psycopg.connect(database.dsn) as other:
        other.execute("SELECT FROM profiles.customer_documents FOR UPDATE")
        for customer in customers[:3]:
            write(database, customer, "new")
        for customer in customers[:3]:
            wait(database, customer, "new")
        profiles.end(signal.SIGKILL)
        for customer in customers[3:]:
            write(database, customer, "new")
        relay.end(signal.SIGKILL)
        running.start("outbox_relay")
        again = running.start("customer_profiles")
        for customer in customers:
            wait(database, customer, "new")
        again.end(signal.SIGKILL)
    running.start("customer_profiles")
    for customer in customers:
        arrives(database, customer, "new")
        # What is read again is turned back again, the change before this one too, and then overtaken.
        eventually(lambda: {"done"} <= set(states(database, customer)) <= {"done", "overtaken"})  # noqa: B023
