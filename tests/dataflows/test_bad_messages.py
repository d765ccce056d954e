"""A thousand bad messages of 27 kinds among ten thousand good ones: each good one is indexed, each bad one
lies in quarantine, whole, with the reason."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest
from bytewax.testing import run_main
from elasticsearch import Elasticsearch

from dataflows.catalog_search import NAME, build
from sinks.elasticsearch import ElasticsearchStore
from sources.kafka import KafkaSource
from sources.kafka_reading import KafkaSettings
from syncline.circuit import Circuits
from syncline.model.message import Record
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import SEARCH, payload, price, product, stock
from tests.log import Log
from tests.own import own_settings

GOOD, BAD = 10_000, 1_000
EMOJI = "🦆🏳️‍🌈 Ωmega"


@pytest.fixture(scope="module")
def own(settings: Settings) -> Iterator[Settings]:
    with own_settings(settings, "bad-messages", redis_database=8) as own:
        yield own


class Bad(NamedTuple):
    """One bad message, and what its reason must say."""

    entity_type: str
    key: bytes | None
    value: bytes | None
    reason: str
    headers: tuple[tuple[str, bytes | None], ...] = ()


def deep(levels: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"end": 1}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


def of_product(sku: str, reason: str, **columns: object) -> Bad:
    return Bad("product", sku.encode(), orjson.dumps(payload("product", {**product(sku), **columns})), reason)


def of_price(sku: str, reason: str, **columns: object) -> Bad:
    return Bad("price", sku.encode(), orjson.dumps(payload("price", {**price(sku), **columns})), reason)


def of_stock(sku: str, reason: str, **columns: object) -> Bad:
    return Bad("stock", sku.encode(), orjson.dumps(payload("stock", {**stock(sku), **columns})), reason)


def altered(sku: str, reason: str, **members: object) -> Bad:
    body = {**payload("product", product(sku)), **members}
    return Bad(
        "product", sku.encode(), json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), reason
    )


def raw(sku: str, fields: bytes, reason: str) -> Bad:
    text = b'{"entity":"product:%s","op":"upsert","version":1,"fields":{"sku":"%s","name":%s}}'
    return Bad("product", sku.encode(), text % (sku.encode(), sku.encode(), fields), reason)


def numbered(sku: str, number: bytes) -> Bad:
    bad = of_product(sku, "does not fit in 64 bits", attributes={"n": "NUMBER"})
    return bad._replace(value=(bad.value or b"").replace(b'"NUMBER"', number))


KINDS: dict[str, Callable[[str], Bad]] = {
    "broken JSON": lambda sku: Bad("product", sku.encode(), b'{"entity": "' + sku.encode(), "not JSON"),
    "not UTF-8": lambda sku: raw(sku, b'"\xff\xfe"', "not JSON"),
    "NUL": lambda sku: raw(sku, rb'"a\u0000b"', "U+0000"),
    "NaN": lambda sku: raw(sku, b"NaN", "not JSON"),
    "an array": lambda sku: Bad("product", sku.encode(), orjson.dumps([sku]), "a list is no change"),
    "no value": lambda sku: Bad("product", sku.encode(), None, "value: there is none"),
    "entity missing": lambda sku: altered(sku, "entity: None", entity=...),
    "unknown entity": lambda sku: altered(sku, "'basket:1' does not belong on", entity="basket:1"),
    "wrong key": lambda sku: altered(sku, "key: 'other' must be the sku")._replace(key=b"other"),
    "unknown op": lambda sku: altered(sku, "op: 'truncate' is unknown", op="truncate"),
    "version 0": lambda sku: altered(sku, "version: 0 must be", version=0),
    "version negative": lambda sku: altered(sku, "version: -1 must be", version=-1),
    "version a float": lambda sku: altered(sku, "version: 1.5 must be", version=1.5),
    "version a text": lambda sku: altered(sku, "version: '7' must be", version="7"),
    "version beyond 64 bits": lambda sku: altered(sku, "version: ", version=2**63),
    "fields missing": lambda sku: altered(sku, "fields: a NoneType", fields=...),
    "name a number": lambda sku: of_product(sku, "name: 12", name=12),
    "on_hand a text": lambda sku: of_stock(sku, "on_hand: 'many'", on_hand="many"),
    "too many digits": lambda sku: of_price(sku, "list_amount: '1.23456'", list_amount="1.23456"),
    "currency too long": lambda sku: of_price(sku, "currency: 'EURO'", currency="EURO"),
    "number beyond 64 bits": lambda sku: numbered(sku, str(2**64).encode()),
    "sale above list": lambda sku: of_price(sku, "sale_amount: 20.0000", list_amount="10", sale_amount="20"),
    "reserved above on hand": lambda sku: of_stock(
        sku, "reserved: 9 must be at most on_hand, 5", on_hand=5, reserved=9
    ),
    "empty name": lambda sku: of_product(sku, "name: '  ' is empty", name="  "),
    "nested too deep": lambda sku: of_product(sku, "attributes", attributes=deep(25)),
    "a bad header": lambda sku: altered(sku, "header committedAt: b'noon'")._replace(
        headers=(("committedAt", b"noon"),)
    ),
}


def good_messages(own: Settings) -> list[Record]:
    """Products with their prices and stock, with one that is large and names that are not ASCII."""
    topics = {policy.type: policy.topic(own.topic_prefix) for policy in SEARCH.entities}
    made = []
    for number in range(GOOD):
        sku = f"SKU-{number:05}"
        columns: dict[str, Any] = {"name": f"{EMOJI} {number}"}
        if number == GOOD // 2:
            columns["description"] = "x" * (5 * 1024 * 1024)
        value = orjson.dumps(payload("product", {**product(sku), **columns}))
        made.append(Record(topics["product"], sku.encode(), value, (("eventType", b"created"),)))
    return made


def bad_messages(own: Settings) -> list[tuple[Record, str]]:
    topics = {policy.type: policy.topic(own.topic_prefix) for policy in SEARCH.entities}
    kinds = list(KINDS.values())
    made = []
    for number in range(BAD):
        bad = kinds[number % len(kinds)](f"BAD-{number:04}")
        made.append((Record(topics[bad.entity_type], bad.key, bad.value, bad.headers), bad.reason))
    return made


def interleaved(good: list[Record], bad: list[Record]) -> Iterator[Record]:
    step = len(good) // len(bad)
    for number, record in enumerate(bad):
        yield from good[number * step : (number + 1) * step]
        yield record
    yield from good[len(bad) * step :]


def run_to_the_end(own: Settings, log: Log) -> None:
    circuits = Circuits(Stop())
    reading = KafkaSettings(log.bootstrap_servers, f"{own.topic_prefix}-{NAME}", 4_096, 2)
    source = KafkaSource(reading, list(SEARCH.topics(own.topic_prefix)), circuits.kafka, until_end=True)
    store = ElasticsearchStore(own.elasticsearch_url.get_secret_value(), own.search_alias)
    run_main(build(own, source, store, circuits), epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]
    store.close()


def quarantined(own: Settings) -> dict[tuple[str, bytes | None, bytes | None], tuple[str, Any, int]]:
    """Reason, headers and count, by the message as it came."""
    with psycopg.connect(own.postgres_dsn.get_secret_value()) as connection:
        rows = connection.execute(
            "SELECT topic, message_key, message_value, reason, headers, count FROM sync.quarantine"
        ).fetchall()
    return {
        (topic, key, value): (reason, headers, count) for topic, key, value, reason, headers, count in rows
    }


def test_a_thousand_bad_messages_among_ten_thousand_good_ones(own: Settings) -> None:
    log = Log(own.kafka_bootstrap_servers)
    good, bad = good_messages(own), bad_messages(own)
    assert len(KINDS) >= 20
    log.append(interleaved(good, [record for record, _ in bad]))
    run_to_the_end(own, log)

    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        client.indices.refresh(index=own.search_alias)
        assert client.count(index=own.search_alias)["count"] == GOOD
        assert client.get(index=own.search_alias, id="SKU-00007")["_source"]["name"] == f"{EMOJI} 7"
        large = client.get(index=own.search_alias, id=f"SKU-{GOOD // 2:05}")["_source"]
        assert len(large["description"]) == 5 * 1024 * 1024

    found = quarantined(own)
    assert len(found) == BAD
    for record, reason in bad:
        told, headers, count = found[record.topic, record.key, record.value]
        assert reason in told
        assert [(name, bytes.fromhex(value)) for name, value in headers] == list(record.headers)
        assert count == 1

    # A flow that lost its recovery folder reads it all again: nothing is counted twice, nothing changes.
    run_to_the_end(own, log)
    assert quarantined(own) == found
    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        client.indices.refresh(index=own.search_alias)
        assert client.count(index=own.search_alias)["count"] == GOOD
