"""Quarantined changes from the command line back into Elasticsearch, over the real road: outbox, relay,
Kafka, flow."""

import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
import psycopg
import pytest
from elasticsearch import Elasticsearch, NotFoundError
from psycopg import conninfo

from dataflows.catalog_search import NAME
from sinks.quarantine import quarantine
from syncline.circuit import Circuits
from syncline.model.errors import Invalid, NotPossible, Refused
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.monitor.verification import verify
from syncline.policies.reentry import reentry_topic
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import PRODUCT, change_message, change_of, product
from tests.log import Log, record
from tests.own import own_settings
from tests.process.running import Command, Flow, Running
from tests.road import Road
from tests.services.database import Database
from tests.waiting import eventually

BY = ("--by", "ann")
WHY = ("--why", "the supplier's file was wrong")


@pytest.fixture(scope="module")
def own(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("quarantine")
    with own_settings(settings, "quarantine", redis_database=9, home=home) as own:
        yield own


@pytest.fixture(scope="module")
def running(own: Settings) -> Iterator[Running]:
    with Running(own) as running:
        yield running


@pytest.fixture(scope="module")
def relay(running: Running) -> Flow:
    return running.start("outbox_relay")


@pytest.fixture(scope="module")
def search(running: Running, relay: Flow) -> Flow:
    return running.start("catalog_search")


@pytest.fixture
def database(own: Settings) -> Iterator[Database]:
    """Nothing is in quarantine yet."""
    with Database(own.postgres_dsn.get_secret_value()) as database:
        database._admin.execute("DELETE FROM sync.quarantine")
        yield database


@pytest.fixture
def command(command: Command) -> Command:
    """``syncline quarantine ...``, and what it said."""
    return partial(command, "quarantine")


class Shown:
    """The documents as a get by id finds them."""

    def __init__(self, own: Settings) -> None:
        self._client = Elasticsearch(own.elasticsearch_url.get_secret_value())
        self._alias = own.search_alias

    def __call__(self, sku: str) -> dict[str, Any]:
        try:
            source: dict[str, Any] = self._client.get(index=self._alias, id=sku)["_source"]
        except NotFoundError:
            return {}
        return source

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def shown(own: Settings) -> Iterator[Shown]:
    shown = Shown(own)
    yield shown
    shown.close()


def states(database: Database, entity: str) -> list[tuple[int, str, int]]:
    return database.ask(
        "SELECT id, state, count FROM sync.quarantine WHERE entity_type || ':' || entity_id = %s", (entity,)
    )


def waits(database: Database, entity: str, count: int = 1) -> int:
    """The entity's one entry, once it is open after so many failures."""

    def is_open() -> list[tuple[int, str, int]]:
        return [row for row in states(database, entity) if row[1:] == ("open", count)]

    [(entry, _, _)] = eventually(is_open, what=f"{entity} in quarantine")
    assert len(states(database, entity)) == 1
    return entry


def ended(database: Database, entity: str, state: str) -> None:
    eventually(lambda: [row[1] for row in states(database, entity)] == [state], what=f"{entity} {state}")


def bad_product(database: Database, sku: str) -> int:
    database.write("catalog", f"INSERT INTO catalog.products (sku, name) VALUES ('{sku}', '')")
    return waits(database, f"product:{sku}")


def test_a_change_that_was_corrected_is_in_the_copy(
    own: Settings,
    search: Flow,
    database: Database,
    command: Command,
    shown: Shown,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    entry = bad_product(database, "CORRECT")
    assert "product:CORRECT" in command("list", "--entity", "product:CORRECT", "--reason", "is empty")
    corrected_at = time.monotonic()
    told = command("correct", entry, "--set", "name=Kettle", "--set", 'tags=["new"]', *BY, *WHY)
    assert told.startswith('name: "" -> "Kettle"\ntags: null -> ["new"]\n')
    eventually(lambda: shown("CORRECT").get("name") == "Kettle", what="the correction")
    took_ms = round((time.monotonic() - corrected_at) * 1000)
    record_testsuite_property("from the command to the copy, ms", took_ms)

    ended(database, "product:CORRECT", "replayed")
    assert shown("CORRECT")["tags"] == ["new"]
    whole = orjson.loads(command("show", entry, "--json"))
    assert (orjson.loads(whole["value"])["fields"]["name"], whole["handled_by"]) == ("", "ann")
    assert orjson.loads(whole["corrected_value"])["fields"]["name"] == "Kettle"
    assert whole["why"] == WHY[1]
    entity = shown("CORRECT")["_sync"]["entities"]["product:CORRECT"]
    assert entity["version"] == whole["version"]
    assert entity["version"][3] == 1
    assert entity["origin"].startswith(f"{own.topic_prefix}.sync.reentry/")

    report = verify("catalog_search", own)
    assert report.is_clean
    assert "product:CORRECT" in [name for key in report.explained_keys for name in key.quarantined]


def test_the_next_version_stands_above_a_correction(
    search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    command("correct", bad_product(database, "NEXT"), "--set", "name=Kettle", *BY, *WHY)
    eventually(lambda: shown("NEXT").get("name") == "Kettle", what="the correction")
    database.write("catalog", "UPDATE catalog.products SET name = 'Teapot' WHERE sku = 'NEXT'")
    eventually(lambda: shown("NEXT")["name"] == "Teapot", what="the next version")
    ended(database, "product:NEXT", "replayed")


def test_a_replay_that_a_newer_version_overtook_changes_nothing(
    search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    entry = bad_product(database, "LATE")
    database.write("catalog", "UPDATE catalog.products SET name = 'Mug' WHERE sku = 'LATE'")
    eventually(lambda: shown("LATE").get("name") == "Mug", what="the newer version")
    before = shown("LATE")
    command("correct", entry, "--set", "name=Cup", *BY, *WHY)
    ended(database, "product:LATE", "overtaken")
    assert shown("LATE") == before


def test_a_replay_that_fails_again_is_the_same_entry(
    search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    entry = bad_product(database, "AGAIN")
    command("replay", entry, *BY)
    assert waits(database, "product:AGAIN", count=2) == entry
    command("correct", entry, "--set", "tags=12", *BY, *WHY)
    assert waits(database, "product:AGAIN", count=3) == entry
    whole = orjson.loads(command("show", entry, "--json"))
    assert (whole["step"], whole["error"]) == ("transform", "Untransformable")
    assert "tags: 12" in whole["reason"]
    command("correct", entry, "--set", "tags=null", "--set", "name=12", *BY, *WHY)
    eventually(lambda: shown("AGAIN").get("name") == "12", what="the correction")
    ended(database, "product:AGAIN", "replayed")
    assert shown("AGAIN")["_sync"]["entities"]["product:AGAIN"]["version"][3] == 2


def test_a_price_that_comes_back_is_a_message_of_pricing(
    search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    database.write(
        "pricing", "INSERT INTO pricing.prices (sku, currency, list_amount) VALUES ('P', 'EUR', -1)"
    )
    entry = waits(database, "price:EUR:P")
    command("correct", entry, "--set", "list_amount=12.50", *BY, *WHY)
    eventually(lambda: shown("P").get("prices", {}).get("EUR"), what="the price")
    assert shown("P")["prices"]["EUR"]["list_e4"] == 125_000
    [(headers,)] = database.ask("SELECT headers FROM sync.quarantine WHERE id = %s", (entry,))
    event_id = bytes.fromhex(dict(headers)["id"]).decode()
    assert shown("P")["_sync"]["entities"]["price:EUR:P"]["event_id"] == event_id


def test_a_hundred_failures_of_one_entity_are_one_entry(
    search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    database.write(
        "pricing",
        "INSERT INTO pricing.prices (sku, currency, list_amount) VALUES ('H', 'EUR', -1)",
        *(f"UPDATE pricing.prices SET list_amount = -{n} WHERE sku = 'H'" for n in range(2, 101)),
    )
    entry = waits(database, "price:EUR:H", count=100)
    assert "-100.0000 must be at least 0" in command("show", entry)
    [listed] = orjson.loads(command("list", "--entity", "price", "--json"))
    assert (listed["id"], listed["count"], listed["first_seen"] < listed["last_seen"]) == (entry, 100, True)
    command("correct", entry, "--set", "list_amount=100", *BY, *WHY)
    eventually(lambda: shown("H").get("prices", {}).get("EUR"), what="the price")
    ended(database, "price:EUR:H", "replayed")


def put_aside(own: Settings, flow: str, *failures: Failure) -> None:
    sink = quarantine(flow, own.postgres_dsn.get_secret_value(), Circuits(Stop()).postgres)
    sink.write(failures)
    sink.close()


def good_product(own: Settings, sku: str) -> Message:
    topic = PRODUCT.topic(own.topic_prefix)
    return change_message("product", product(sku), 1)._replace(topic=topic)


def refused_for_a_rule(message: Message) -> Failure:
    """By a rule that has been set right since."""
    sku = (message.key or b"").decode()
    change = change_message("product", product(sku), 1)
    return Failure("apply", message, Invalid("an old rule"), change_of(change)._replace(message=message))


def test_all_that_is_open_and_what_fits_a_condition(
    own: Settings, search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    skus = [f"ALL-{number}" for number in range(20)]
    put_aside(own, NAME, *(refused_for_a_rule(good_product(own, sku)) for sku in skus))
    too_large = good_product(own, "RELAY")._replace(topic="pricing.outbox")
    put_aside(own, "outbox_relay", Failure("publish", too_large, Refused("Kafka takes no record")))

    told = command("replay", "--where", "reason=an old RULE", "--where", "entity=product:ALL-7", *BY)
    assert "1 on their way, 0 cannot be replayed" in told
    ended(database, "product:ALL-7", "replayed")
    assert not shown("ALL-8")

    told = command("replay", "--all", *BY)
    assert "19 on their way, 1 cannot be replayed" in told
    assert "never reached the log" in told
    for sku in skus:
        ended(database, f"product:{sku}", "replayed")
        assert shown(sku)["name"] == "Kettle"
    [(entry,)] = database.ask("SELECT id FROM sync.quarantine WHERE state = 'open'")
    command("discard", entry, *BY, "--why", "written again")
    assert "Nothing is there" in command("list")


def test_a_kill_between_the_write_and_the_end_of_a_replay_loses_neither(
    own: Settings, running: Running, search: Flow, database: Database, command: Command, shown: Shown
) -> None:
    entry = bad_product(database, "KILL")
    search.end(signal.SIGTERM)
    dsn = own.postgres_dsn.get_secret_value()
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0), is_open=False) as road:
        deaf = running.start("catalog_search", postgres_dsn=conninfo.make_conninfo(dsn, port=road.port))
        command("correct", entry, "--set", "name=Kettle", *BY, *WHY)
        eventually(lambda: shown("KILL").get("name") == "Kettle", what="the correction")
        deaf.await_event("holding the place", doing="sync.replays")
        assert [row[1] for row in states(database, "product:KILL")] == ["replaying"]
        deaf.end(signal.SIGKILL)
    before = shown("KILL")
    again = running.start("catalog_search")
    ended(database, "product:KILL", "replayed")
    assert shown("KILL") == before
    database.write("catalog", "INSERT INTO catalog.products (sku, name) VALUES ('ALIVE', 'Mug')")
    eventually(lambda: shown("ALIVE"), what="a change after the kill")
    assert again.end(signal.SIGTERM) < 5


def test_what_cannot_be_done_is_told_and_changes_nothing(
    own: Settings, running: Running, database: Database, command: Command
) -> None:
    search = running.start("catalog_search")
    Log(own.kafka_bootstrap_servers).append([record(PRODUCT.topic(own.topic_prefix), b"U", b"{")])
    Log(own.kafka_bootstrap_servers).append([record(reentry_topic(own.topic_prefix), b"U", b"{}")])

    def undecoded_entries() -> list[int]:
        rows = database.ask("SELECT id FROM sync.quarantine WHERE error = 'Undecodable' ORDER BY topic")
        return [entry for (entry,) in rows] if len(rows) == 2 else []

    undecoded, of_syncline = eventually(undecoded_entries, what="both in quarantine")
    entry = bad_product(database, "NO")
    search.end(signal.SIGTERM)
    sets = ("--set", "name=Kettle")
    for arguments, told in (
        (("show", 10**6), "there is no entry 1000000; run: syncline quarantine list"),
        (("correct", undecoded, *sets, *BY, *WHY), "has no fields to correct"),
        (("correct", entry, "--set", "name=", *BY, *WHY), "says so already"),
        (("correct", entry, "--set", "name", *BY, *WHY), "'name' sets nothing"),
        (("replay", of_syncline, *BY), "was sent to catalog_search by Syncline itself"),
        (("replay", *BY), "give an ID, or --all, or --where"),
        (("replay", entry, "--all", *BY), "give an ID, or --all, or --where"),
        (("replay", "--where", "colour=red", *BY), "'colour=red' is no condition"),
    ):
        with pytest.raises(NotPossible, match=told):
            command(*arguments)
    command("discard", entry, *BY, "--why", "a test")
    for verb in (("replay", entry), ("correct", entry, *sets, *WHY)):
        with pytest.raises(NotPossible, match="is discarded already by ann: a test"):
            command(*verb, *BY)
    assert database.ask("SELECT count(*) FROM sync.outbox") == [(0,)]
    with psycopg.connect(own.postgres_dsn.get_secret_value()) as connection:
        found = connection.execute("SELECT state FROM sync.quarantine WHERE id = %s", (undecoded,)).fetchone()
    assert found == ("open",)
