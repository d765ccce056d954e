"""What is hidden for longer than its policy allows: found in the index, told by ``syncline references``."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from syncline.console.main import app
from syncline.model.document import merge, tick
from syncline.monitor import search_copy
from syncline.monitor.overdue_references import OverdueReferences, find_overdue, overdue_in
from syncline.policies.policies import Policies, Reference
from syncline.policies.reading import load_policies
from syncline.policies.search_document import SearchDocument
from syncline.settings import Settings
from tests.changes import NOON_US, price_part, product_part, stock_part
from tests.monitor.shop import Shop
from tests.own import but

NOON = datetime.fromtimestamp(NOON_US / 1e6, UTC)
HOUR = timedelta(hours=1)
PRICE = Reference("price", "product", HOUR)
STOCK = Reference("stock", "product", 2 * HOUR)


def record(since_us: int, **more: object) -> dict[str, Any]:
    return {"version": [1, 5, 0, 0], "committed_at_us": NOON_US, "synced_at_us": since_us, **more}


def hidden(**records: dict[str, Any]) -> dict[str, Any]:
    """A document with a price in EUR and stock in W1, by the records of ``price``, ``stock``, ``product``."""
    names = {"price": "price:EUR:S", "stock": "stock:W1:S", "product": "product:S"}
    entities = {names[entity]: record for entity, record in records.items()}
    return {
        "sku": "S",
        "prices": {"EUR": {"list_e4": 1}} if "price" in records else {},
        "stock": {"by_warehouse": {"W1": {"on_hand": 1}} if "stock" in records else {}},
        "_sync": {"version": 1, "hidden": True, "entities": entities},
    }


def names(document: dict[str, Any], now: datetime) -> list[str]:
    return [str(each.entity) for each in overdue_in("S", document, [PRICE, STOCK], now)]


def test_each_has_the_grace_time_of_its_own_policy() -> None:
    document = hidden(price=record(NOON_US), stock=record(NOON_US))
    assert names(document, NOON + HOUR - timedelta(microseconds=1)) == []
    assert names(document, NOON + HOUR) == ["price:EUR:S"]
    assert names(document, NOON + 2 * HOUR) == ["price:EUR:S", "stock:W1:S"]
    price, _ = overdue_in("S", document, [PRICE, STOCK], NOON + 2 * HOUR)
    assert (str(price.referenced), price.since, price.overdue_since) == ("product:S", NOON, NOON + HOUR)


def test_a_later_change_does_not_begin_the_grace_time_anew() -> None:
    late_us = NOON_US + 3_590_000_000
    assert names(hidden(price=record(late_us)), NOON + HOUR) == []
    assert names(hidden(price=record(late_us, first_synced_at_us=NOON_US)), NOON + HOUR) == ["price:EUR:S"]


@pytest.mark.parametrize("op_rank", [1, 0], ids=["deleted", "filtered"])
def test_a_product_on_record_explains_why_the_rest_is_hidden(op_rank: int) -> None:
    product = record(NOON_US) | {"version": [1, 9, op_rank, 0]}
    assert names(hidden(price=record(NOON_US), product=product), NOON + 9 * HOUR) == []


def test_of_a_price_that_is_gone_only_the_record_is_left() -> None:
    document = hidden(price=record(NOON_US), stock=record(NOON_US))
    document["prices"] = {}
    assert names(document, NOON + 9 * HOUR) == ["stock:W1:S"]


def test_a_document_as_the_flow_writes_it() -> None:
    shape = SearchDocument()
    document = shape.empty("SKU-1")
    parts = [price_part(1), stock_part(1), price_part(2), stock_part(2, "delete")]
    for minutes, part in enumerate(parts):
        merge(shape, document, part, NOON_US + minutes * 60_000_000)
    tick(shape, document, NOON_US)
    [price] = overdue_in("SKU-1", document, [PRICE, STOCK], NOON + 9 * HOUR)
    assert (str(price.entity), price.since) == ("price:EUR:SKU-1", NOON)
    merge(shape, document, product_part(), NOON_US)
    assert overdue_in("SKU-1", document, [PRICE, STOCK], NOON + 9 * HOUR) == []


def overdue(own: Settings, now: datetime) -> list[list[str]]:
    """By page of the index."""
    pages = OverdueReferences.of(own, load_policies()).read(now)
    return [[str(each.entity) for each in page] for page in pages]


def test_it_is_found_page_by_page_among_what_is_shown(
    shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_copy, "DOCUMENTS_AT_ONCE", 2)
    for sku in ("A", "C", "E"):
        shop.sell_early(sku)
    for sku in ("B", "D"):
        shop.index(shop.sell(sku))
    out_of_place = shop.document("A") | {"sku": "elsewhere"}
    shop.index(out_of_place, "out of place")
    assert overdue(own, NOON + 2 * HOUR) == [
        [f"{part}:{sku}" for sku in ("A", "C") for part in ("price:EUR", "stock:W1", "stock:W2")],
        [f"{part}:E" for part in ("price:EUR", "stock:W1", "stock:W2")],
    ]
    assert overdue(own, NOON + HOUR) == [[], []]


def test_where_no_policy_refers_to_anything_the_index_is_not_asked(own: Settings) -> None:
    nowhere = but(own, elasticsearch_url="http://127.0.0.1:1")
    assert list(OverdueReferences.of(nowhere, Policies(())).read(NOON)) == []


def test_the_source_may_have_what_never_came(shop: Shop, own: Settings) -> None:
    for sku in ("A", "B"):
        shop.sell_early(sku)
    shop.run("INSERT INTO catalog.products (sku, name) VALUES ('B', 'Cup')")
    found = [(str(each.overdue.entity), each.is_in_source) for each in find_overdue(own, NOON + 2 * HOUR)]
    assert found[0] == ("price:EUR:A", False)
    assert found[3] == ("price:EUR:B", True)


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(app, ["references", *arguments])


def test_none_is_overdue(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.index(shop.sell("S"))
    result = run(own, monkeypatch)
    assert (result.exit_code, result.stdout) == (0, "none is overdue\n")


def test_people_see_what_is_overdue_and_what_to_do(
    shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sku in ("A", "B"):
        shop.sell_early(sku)
    shop.run("INSERT INTO catalog.products (sku, name) VALUES ('B', 'Cup')")
    result = run(own, monkeypatch, "--limit", "4")
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[1] == (
        "price:EUR:A 2026-01-01 12:00:00.005Z 2026-01-01 13:00:00.005Z product:A does not have it either"
    )
    assert lines[4].endswith("product:B has it: a change is missing")
    assert lines[5:] == [
        "... and 2 more; see them with --limit",
        "6 overdue; of 3 the source has what never came",
        "Next: syncline explain product B, to see where its change is",
        "Next: let the owner of product:A add it, or that of price:EUR:A delete that",
    ]
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_programs_see_it_too(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sell_early("S")
    result = run(own, monkeypatch, "--json", "--limit", "1")
    assert result.exit_code == 1
    assert orjson.loads(result.stdout) == {
        "overdue": 3,
        "in_source": 0,
        "references": [
            {
                "entity": "price:EUR:S",
                "referenced": "product:S",
                "since": "2026-01-01T12:00:00.005000+00:00",
                "overdue_since": "2026-01-01T13:00:00.005000+00:00",
                "is_in_source": False,
            }
        ],
    }
