"""Verification on real servers: every kind of difference is found, and nothing else is."""

from collections.abc import Callable
from datetime import timedelta

import orjson
import psycopg
import pytest
from psycopg.types.json import Jsonb

from syncline.model.errors import Misconfigured, Unavailable
from syncline.monitor.verification import KeyReport, VerificationReport, verify
from syncline.services.schema import install
from syncline.settings import Settings
from tests.monitor.shop import Document, Shop
from tests.own import but, own_database

AT_ONCE = timedelta(0)


def check(settings: Settings) -> VerificationReport:
    return verify("catalog_search", settings, AT_ONCE)


def fields(key: KeyReport) -> list[str]:
    return [difference.field for difference in key.differences]


def test_documents_that_equal_their_sources(shop: Shop, own: Settings) -> None:
    for sku in ("A", "a", "Ä", "😀", "B C", "Z"):
        shop.index(shop.sell(sku))
    report = check(own)
    assert report.is_clean
    assert (report.in_source, report.documents, report.equal, report.compared) == (6, 6, 6, 6)
    assert report.summary == "verified: 6 of 6 documents equal their sources"


def test_an_empty_shop_is_equal_to_an_empty_index(shop: Shop, own: Settings) -> None:
    assert check(own).summary == "verified: 0 of 0 documents equal their sources"


def stale_price(document: Document) -> None:
    document["prices"]["EUR"]["list_e4"] = 128_999


def wrong_total(document: Document) -> None:
    document["stock"]["available"] = 9


def number_as_text(document: Document) -> None:
    document["prices"]["EUR"]["sale_e4"] = "99900"


def null_left_out(document: Document) -> None:
    del document["prices"]["EUR"]["valid_to"]


def stale_version(document: Document) -> None:
    document["_sync"]["entities"]["stock:W2:S"]["version"][1] -= 1


def version_unknown(document: Document) -> None:
    del document["_sync"]["entities"]["product:S"]


def version_unreadable(document: Document) -> None:
    document["_sync"]["entities"]["product:S"] = {"version": "7"}


def deleted_on_record_alone(document: Document) -> None:
    document["_sync"]["entities"]["price:EUR:S"]["version"][2] = 1


def hidden_without_reason(document: Document) -> None:
    document["_sync"]["hidden"] = True


def price_without_a_row(document: Document) -> None:
    document["prices"]["USD"] = document["prices"]["EUR"]


def entity_without_a_row(document: Document) -> None:
    document["_sync"]["entities"]["price:USD:S"] = {"version": [1, 1, 0, 0]}


def field_that_nobody_owns(document: Document) -> None:
    document["colour"] = "red"


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (stale_price, "prices.EUR.list_e4"),
        (wrong_total, "stock.available"),
        (number_as_text, "prices.EUR.sale_e4"),
        (null_left_out, "prices.EUR.valid_to"),
        (stale_version, "_sync.entities.stock:W2:S.version"),
        (version_unknown, "_sync.entities.product:S.version"),
        (version_unreadable, "_sync.entities.product:S.version"),
        (deleted_on_record_alone, "_sync.entities.price:EUR:S.version"),
        (hidden_without_reason, "_sync.hidden"),
        (price_without_a_row, "prices.USD"),
        (entity_without_a_row, "_sync.entities.price:USD:S.version"),
        (field_that_nobody_owns, "colour"),
    ],
)
def test_a_difference_in_one_field_is_found(
    shop: Shop, own: Settings, spoil: Callable[[Document], None], field: str
) -> None:
    shop.index(shop.sell("RIGHT"))
    document = shop.sell("S")
    spoil(document)
    shop.index(document)
    report = check(own)
    assert (report.equal, report.differing) == (1, 1)
    assert [(key.key, fields(key)) for key in report.differing_keys] == [("S", [field])]


def test_a_missing_document_is_found(shop: Shop, own: Settings) -> None:
    shop.sell("S")
    report = check(own)
    assert report.summary == "verified: 0 of 1 documents equal their sources; 1 differing"
    assert fields(report.differing_keys[0]) == ["the whole document"]


def test_an_extra_visible_document_is_found(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    shop.empty()
    shop.index(document)
    report = check(own)
    assert (report.in_source, report.documents, report.differing) == (0, 1, 1)
    assert "_sync.hidden" in fields(report.differing_keys[0])


def test_a_resurrected_product_is_found(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    shop.run("DELETE FROM catalog.products")
    shop.index(document)
    report = check(own)
    assert {"name", "_sync.hidden", "_sync.entities.product:S.version"} <= set(
        fields(report.differing_keys[0])
    )


@pytest.mark.parametrize("sku", [None, "OTHER"])
def test_a_document_under_a_strange_id_is_found(shop: Shop, own: Settings, sku: str | None) -> None:
    shop.index(shop.sell("S"))
    shop.index({"sku": sku}, "STRANGE")
    report = check(own)
    assert (report.equal, [key.key for key in report.differing_keys]) == (1, ["STRANGE"])


def test_what_is_hidden_must_be_right_too(shop: Shop, own: Settings) -> None:
    """A price that came before its product, and a product that was deleted with all it had."""
    early = shop.sell_early("EARLY")
    nothing = {"on_hand": 0, "reserved": 0, "available": 0, "in_stock": False, "by_warehouse": {}}
    on_record = {"hidden": True, "entities": {"product:GONE": {"version": [1, 9, 1, 0]}}}
    shop.index({"sku": "GONE", "prices": {}, "stock": nothing, "_sync": on_record})
    assert check(own).equal == 2

    early["prices"]["EUR"]["sale_e4"] = 1
    shop.index(early)
    assert [key.key for key in check(own).differing_keys] == ["EARLY"]


def test_values_are_exact(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    shop.run("UPDATE catalog.products SET name = '☕😀 \"\\', description = NULL, tags = '{NULL,😀}'")
    shop.run(
        'UPDATE catalog.products SET attributes = \'{"n": 18446744073709551615, "é": [1.5e300, {}, null]}\''
    )
    shop.run("DELETE FROM pricing.prices")
    shop.run("INSERT INTO pricing.prices VALUES ('S', 'EUR', 99999999.9999, 0.0001, '-infinity', 'infinity')")
    shop.run(
        "INSERT INTO pricing.prices VALUES"
        " ('S', 'USD', 0, NULL, '1969-12-31 23:59:59.999999-05:30', '9999-12-31 23:59:59.999999Z')"
    )
    document |= {
        "name": '☕😀 "\\',
        "description": None,
        "tags": [None, "😀"],
        "attributes": {"n": 18_446_744_073_709_551_615, "é": [1.5e300, {}, None]},
        "prices": {
            "EUR": {"list_e4": 999_999_999_999, "sale_e4": 1, "valid_from": None, "valid_to": None},
            "USD": {
                "list_e4": 0,
                "sale_e4": None,
                "valid_from": "1970-01-01T05:29:59.999999Z",
                "valid_to": "9999-12-31T23:59:59.999999Z",
            },
        },
    }
    document["_sync"]["entities"] = shop.entities("S")
    shop.index(document)
    assert check(own).is_clean

    document["prices"]["USD"]["valid_from"] = "1970-01-01T05:29:59.999998Z"
    document["attributes"]["n"] -= 1
    shop.index(document)
    assert fields(check(own).differing_keys[0]) == ["attributes.n", "prices.USD.valid_from"]


def test_values_that_no_document_can_hold_are_differences_and_no_error(shop: Shop, own: Settings) -> None:
    shop.index(shop.sell("S"))
    shop.run("UPDATE catalog.products SET attributes = jsonb_build_object('n', 1e400::numeric)")
    shop.run(
        "UPDATE pricing.prices"
        " SET list_amount = 'NaN', valid_from = '0044-03-15 BC', valid_to = '294000-01-01'"
    )
    shop.run("UPDATE warehouse.stock SET on_hand = NULL")
    assert {
        "attributes.n",
        "prices.EUR.list_e4",
        "prices.EUR.valid_from",
        "prices.EUR.valid_to",
        "stock.by_warehouse.W1.on_hand",
    } <= set(fields(check(own).differing_keys[0]))


def test_quarantine_explains_what_waits_there(shop: Shop, own: Settings) -> None:
    """The stock's totals and the hiding follow from what the copy has."""
    for sku in ("PRICE", "PRODUCT", "NEW"):
        document = shop.sell(sku)
        if sku != "NEW":
            shop.index(document)
    shop.run("UPDATE warehouse.stock SET reserved = 99 WHERE sku = 'PRICE' AND warehouse_id = 'W1'")
    shop.run("UPDATE pricing.prices SET list_amount = -1 WHERE sku = 'PRICE'")
    shop.run("UPDATE catalog.products SET name = '' WHERE sku = 'PRODUCT'")
    for entity in ("stock:W1:PRICE", "price:EUR:PRICE", "product:PRODUCT"):
        shop.quarantine(entity, shop.entities(entity.rpartition(":")[2])[entity]["version"][1])
    for entity, entry in shop.entities("NEW").items():
        shop.quarantine(entity, entry["version"][1])
    report = check(own)
    assert report.is_clean
    assert (
        report.summary
        == "verified: 0 of 3 documents equal their sources; 3 explained by quarantine or retries"
    )
    assert {key.key: set(key.quarantined) for key in report.explained_keys} == {
        "NEW": set(shop.entities("NEW")),
        "PRICE": {"stock:W1:PRICE", "price:EUR:PRICE"},
        "PRODUCT": {"product:PRODUCT"},
    }


@pytest.mark.parametrize(("off", "state"), [(-1, "open"), (1, "open"), (0, "replayed"), (0, "discarded")])
def test_quarantine_of_another_version_or_settled_explains_nothing(
    shop: Shop, own: Settings, off: int, state: str
) -> None:
    shop.index(shop.sell("S"))
    shop.run("UPDATE pricing.prices SET list_amount = -1")
    shop.quarantine("price:EUR:S", shop.entities("S")["price:EUR:S"]["version"][1] + off, state=state)
    assert check(own).differing == 1


def test_a_correction_explains_what_the_copy_has_of_it(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    shop.run("UPDATE pricing.prices SET list_amount = -1")
    version = shop.entities("S")["price:EUR:S"]["version"][1]
    document["_sync"]["entities"] = shop.entities("S")
    document["_sync"]["entities"]["price:EUR:S"]["version"] = [1, version, 0, 1]
    shop.index(document)
    assert check(own).differing == 1, "nobody is on record for it"
    shop.quarantine("price:EUR:S", version, state="replayed", correction=1)
    report = check(own)
    assert report.is_clean
    assert [key.quarantined for key in report.explained_keys] == [("price:EUR:S",)]


def test_what_a_person_chose_of_a_conflict_explains_what_the_copy_has_of_it(
    shop: Shop, own: Settings
) -> None:
    document = shop.sell("S")
    document["prices"]["EUR"]["list_e4"] = 1
    version = shop.entities("S")["price:EUR:S"]["version"]
    document["_sync"]["entities"]["price:EUR:S"]["version"] = [*version[:3], 7]
    shop.index(document)
    shop.run(
        """
        INSERT INTO sync.conflicts (
            flow, kind, entity_type, entity_id, field, known_writer, known_version, known_hash,
            arrived_writer, arrived_version, arrived_hash, arrived_event_id, rule, winner, resolution
        ) VALUES (
            'catalog_search', 'version', 'price', 'EUR:S', '', 'pricing', %s, 'a',
            'pricing', %s, 'b', 'event', 'last_write_wins', 'arrived', '{"take": "stored"}'
        )
        """,
        Jsonb(version),
        Jsonb(version),
    )
    assert check(own).differing == 1, "nothing was sent"
    shop.run("""UPDATE sync.conflicts SET resolution = '{"take": "stored", "version": 7}'""")
    report = check(own)
    assert report.is_clean
    assert [key.quarantined for key in report.explained_keys] == [("price:EUR:S",)]


@pytest.mark.parametrize(
    ("in_copy", "off", "state"), [(0, 0, "replayed"), (1, -1, "replayed"), (1, 0, "overtaken")]
)
def test_a_correction_that_the_copy_does_not_have_explains_nothing(
    shop: Shop, own: Settings, in_copy: int, off: int, state: str
) -> None:
    document = shop.sell("S")
    shop.run("UPDATE pricing.prices SET list_amount = -1")
    version = shop.entities("S")["price:EUR:S"]["version"][1]
    document["_sync"]["entities"] = shop.entities("S")
    document["_sync"]["entities"]["price:EUR:S"]["version"] = [1, version, 0, in_copy]
    shop.index(document)
    shop.quarantine("price:EUR:S", version + off, state=state, correction=1)
    assert check(own).differing == 1


def test_what_is_being_replayed_still_waits(shop: Shop, own: Settings) -> None:
    shop.index(shop.sell("S"))
    shop.run("UPDATE pricing.prices SET list_amount = -1")
    shop.quarantine("price:EUR:S", shop.entities("S")["price:EUR:S"]["version"][1], state="replaying")
    assert check(own).explained == 1


def test_quarantine_explains_its_entity_alone(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    document["name"] = "Mug"
    shop.index(document)
    shop.run("UPDATE pricing.prices SET list_amount = -1")
    shop.quarantine("price:EUR:S", shop.entities("S")["price:EUR:S"]["version"][1])
    report = check(own)
    assert [fields(key) for key in report.differing_keys] == [["name"]]


def test_a_delete_in_quarantine_explains_what_is_still_there(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    shop.index(document)
    shop.run("DELETE FROM pricing.prices")
    assert check(own).differing == 1
    shop.quarantine("price:EUR:S", document["_sync"]["entities"]["price:EUR:S"]["version"][1], op_rank=1)
    assert check(own).explained == 1


def test_a_change_that_was_never_decoded_explains_by_its_bytes(shop: Shop, own: Settings) -> None:
    shop.index(shop.sell("S"))
    shop.run("UPDATE catalog.products SET attributes = jsonb_build_object('n', 1e400::numeric)")
    shop.run(
        """
        INSERT INTO sync.quarantine (
            flow, step, error, reason, topic, partition, "offset", headers, fingerprint, message_value
        )
        SELECT 'outbox_relay', 'publish', 'Refused', '', 'catalog.outbox', 0, seq, '[]', 'x',
               convert_to(payload::text, 'UTF8')
        FROM catalog.outbox ORDER BY seq DESC LIMIT 1
        """
    )
    for number, value in enumerate(
        (b"\xff", b"[]", b"{}", b'{"entity": 1, "version": null, "op": []}', None)
    ):
        shop.run(
            """
            INSERT INTO sync.quarantine (
                flow, step, error, reason, topic, partition, "offset", headers, fingerprint, message_value
            ) VALUES ('catalog_search', 'decode', 'Undecodable', '', 't', 0, 0, '[]', %s, %s)
            """,
            str(number).encode(),
            value,
        )
    assert check(own).explained == 1


def test_sources_may_stand_in_several_databases(shop: Shop, own: Settings) -> None:
    document = shop.sell("S")
    shop.index(document)
    with own_database(own.postgres_dsn.get_secret_value(), "own_monitor_pricing") as dsn:
        install(dsn, ["pricing"])
        apart = but(own, pricing_dsn=dsn)
        assert "prices.EUR" in fields(check(apart).differing_keys[0])
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "INSERT INTO pricing.prices VALUES ('S', 'EUR', 12.90, 9.99, '2024-05-01 10:00Z', 'infinity')"
            )
            found = connection.execute("SELECT version FROM pricing.prices").fetchone()
        document["_sync"]["entities"]["price:EUR:S"]["version"] = [1, *(found or ()), 0, 0]
        shop.index(document)
        assert check(apart).is_clean


def test_a_change_on_the_road_is_waited_for(
    shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = shop.sell("S")
    monkeypatch.setattr("syncline.monitor.verification.time.sleep", lambda _seconds: shop.index(document))
    report = verify("catalog_search", own, timedelta(seconds=30))
    assert (report.equal, report.differing, report.differing_keys) == (1, 0, [])


def test_only_so_many_keys_are_named(shop: Shop, own: Settings) -> None:
    for number in range(5):
        shop.sell(f"S{number}")
    report = verify("catalog_search", own, AT_ONCE, shown=2)
    assert (report.differing, len(report.differing_keys)) == (5, 2)
    assert len(verify("catalog_search", own, AT_ONCE, shown=None).differing_keys) == 5


def test_a_report_is_json(shop: Shop, own: Settings) -> None:
    shop.sell("S")
    report = orjson.loads(check(own).to_json())
    assert report["differing_keys"][0]["differences"][0]["field"] == "the whole document"


def test_more_documents_than_one_page(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncline.monitor.search_copy.DOCUMENTS_AT_ONCE", 2)
    monkeypatch.setattr("syncline.monitor.search_sources.ROWS_AT_ONCE", 2)
    for number in range(5):
        shop.index(shop.sell(f"S{number}"))
    shop.index({}, "NO SKU 1")
    shop.index({}, "NO SKU 2")
    shop.index({}, "NO SKU 3")
    report = check(own)
    assert (report.documents, report.equal, report.differing) == (8, 5, 3)


def test_an_unknown_flow_is_refused_with_the_known_ones(own: Settings) -> None:
    with pytest.raises(Misconfigured, match="'storefront'; there are catalog_search"):
        verify("storefront", own)


@pytest.mark.parametrize(
    "away",
    [
        {"elasticsearch_url": "http://127.0.0.1:1"},
        {"postgres_dsn": "postgresql://postgres@127.0.0.1:1/shop"},
        {"warehouse_dsn": "postgresql://postgres@127.0.0.1:1/shop"},
    ],
)
def test_a_server_that_is_away_is_an_expected_error(shop: Shop, own: Settings, away: dict[str, str]) -> None:
    shop.index(shop.sell("S"))
    with pytest.raises(Unavailable):
        check(but(own, **away))
