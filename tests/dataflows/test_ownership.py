"""Changes forged on Kafka by a service that does not own what it writes: no copy takes any, each is audited
once, and what comes after goes on."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest
from bytewax.testing import run_main
from elasticsearch import Elasticsearch

from dataflows import catalog_search, customer_profiles
from sinks.elasticsearch import ElasticsearchStore
from sinks.postgres_documents import PostgresStore
from sources.kafka import KafkaSource
from sources.kafka_reading import KafkaSettings
from syncline.circuit import Circuits
from syncline.model.message import Record
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import SEARCH, payload, price, product
from tests.customers import ANN, BOB, CUSTOMERS, moment, row_message
from tests.log import Log
from tests.own import own_settings

Conflict = tuple[str, str, str, str, str, str, str]
"""Flow, kind, entity, field, owner, who wrote it, and what stands."""


@pytest.fixture(scope="module")
def own(settings: Settings) -> Iterator[Settings]:
    with own_settings(settings, "ownership", redis_database=14) as own:
        yield own


@pytest.fixture(scope="module")
def log(own: Settings) -> Log:
    return Log(own.kafka_bootstrap_servers)


@pytest.fixture
def database(own: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(own.postgres_dsn.get_secret_value(), autocommit=True) as database:
        database.execute("TRUNCATE sync.conflicts, sync.quarantine")
        yield database


def audited(database: psycopg.Connection[Any]) -> list[Conflict]:
    return database.execute(
        """
        SELECT flow, kind, entity_type || ':' || entity_id, field, known_writer, arrived_writer, winner
        FROM sync.conflicts ORDER BY id
        """
    ).fetchall()


def quarantined(database: psycopg.Connection[Any]) -> list[tuple[str]]:
    return database.execute("SELECT reason FROM sync.quarantine").fetchall()


def search_to_the_end(own: Settings) -> None:
    """The flow without a recovery folder: it reads the whole log."""
    circuits = Circuits(Stop())
    reading = KafkaSettings(own.kafka_bootstrap_servers, f"{own.topic_prefix}-search", 4_096, 2)
    source = KafkaSource(reading, list(SEARCH.topics(own.topic_prefix)), circuits.kafka, until_end=True)
    with closing(ElasticsearchStore(own.elasticsearch_url.get_secret_value(), own.search_alias)) as store:
        flow = catalog_search.build(own, source, store, circuits)
        run_main(flow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]


def profiles_to_the_end(own: Settings) -> None:
    circuits = Circuits(Stop())
    reading = KafkaSettings(own.kafka_bootstrap_servers, f"{own.topic_prefix}-profiles", 4_096, 2)
    source = KafkaSource(reading, list(CUSTOMERS.topics(own.topic_prefix)), circuits.kafka, until_end=True)
    with closing(PostgresStore(own.postgres_dsn.get_secret_value(), "tests")) as store:
        flow = customer_profiles.build(own, source, store, circuits)
        run_main(flow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]


def test_goods_of_another_service(own: Settings, log: Log, database: psycopg.Connection[Any]) -> None:
    topics = {policy.type: policy.topic(own.topic_prefix) for policy in SEARCH.entities}

    def said(on: str, entity_type: str, columns: dict[str, Any], version: int) -> Record:
        value = orjson.dumps(payload(entity_type, columns, version))
        return Record(topics[on], b"S", value, ())

    def shown() -> dict[str, Any]:
        with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
            source: dict[str, Any] = client.get(index=own.search_alias, id="S")["_source"]
        return {"name": source["name"], "list_e4": source["prices"]["EUR"]["list_e4"]}

    log.append(
        [
            said("product", "product", product("S", name="Kettle"), 1),
            said("price", "price", price("S", list_amount="10.0000"), 1),
            said("product", "price", price("S", list_amount="0.0100"), 9),
            said("price", "product", product("S", name="Forged"), 9),
        ]
    )
    search_to_the_end(own)
    assert shown() == {"name": "Kettle", "list_e4": 100_000}
    usurped = {
        ("catalog_search", "ownership", "price:EUR:S", "", "pricing", "catalog", "known"),
        ("catalog_search", "ownership", "product:S", "", "catalog", "pricing", "known"),
    }
    first = audited(database)
    assert (set(first), len(first)) == (usurped, 2)

    # Of a lower version than the forged ones, which count for nothing.
    log.append([said("product", "product", product("S", name="Teapot"), 2)])
    search_to_the_end(own)
    assert shown() == {"name": "Teapot", "list_e4": 100_000}
    assert audited(database) == first
    assert quarantined(database) == []


def test_a_field_that_only_support_may_write(
    own: Settings, log: Log, database: psycopg.Connection[Any]
) -> None:
    topics = {policy.producer: policy.topic(own.topic_prefix) for policy in CUSTOMERS.entities}

    def said(writer: str, version: int, customer: str = ANN, **columns: object) -> Record:
        field_versions = {field: {"version": version, "at": moment(version)} for field in columns}
        row = {"id": customer, **columns, "field_versions": field_versions, "based_on": {}}
        message = row_message(writer, row, version, at=version)
        return Record(topics[writer], message.key, message.value, message.headers)

    def shown() -> dict[str, tuple[str | None, str | None]]:
        rows = database.execute("SELECT id::text, phone, notes FROM profiles.customers").fetchall()
        return {id_: (phone, notes) for id_, phone, notes in rows}

    log.append(
        [
            said("support", 1, notes="calls at noon"),
            said("crm", 90, notes="forged", phone="1"),
            said("storefront", 91, BOB, notes="forged"),
        ]
    )
    profiles_to_the_end(own)
    expected = {ANN: ("1", "calls at noon"), BOB: (None, None)}
    assert shown() == expected
    forged = {
        ("customer_profiles", "ownership", f"customer:{ANN}", "notes", "support", "crm", "known"),
        ("customer_profiles", "ownership", f"customer:{BOB}", "notes", "support", "storefront", "known"),
    }
    first = audited(database)
    assert (set(first), len(first)) == (forged, 2)

    log.append([said("support", 2, notes="calls at one")])
    profiles_to_the_end(own)
    assert shown() == expected | {ANN: ("1", "calls at one")}
    assert audited(database) == first
    assert quarantined(database) == []
