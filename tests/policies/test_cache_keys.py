"""A change makes stale the product's page, the price by itself, and the listings that the product is found
in."""

from typing import Any

import pytest

from syncline.model.decision import Applied, Decision, Stamps, Verdict
from syncline.model.part import Part
from syncline.policies.cache_keys import CUSTOMER_RULES, PRODUCT_RULES, Stale
from tests.changes import price_part, product_part, stock_part

SEARCH = "search:products"


def applied(part: Part, replaced: dict[str, Any] | None = None, *listed: str) -> Applied:
    verdict = Verdict(part, Decision.APPLIED, None, replaced)
    return Applied(part.document_id, [verdict], 1, Stamps(0, 0, 0, 0), {"category": listed})


@pytest.mark.parametrize(
    ("part", "entries"),
    [
        (product_part(), {"product:SKU-1"}),
        (price_part(), {"product:SKU-1", "price:SKU-1:EUR"}),
        (price_part(2, "delete"), {"product:SKU-1", "price:SKU-1:EUR"}),
        (stock_part(), {"product:SKU-1"}),
        (stock_part(2, "delete"), {"product:SKU-1"}),
    ],
    ids=["product", "price", "deleted price", "stock", "deleted stock"],
)
def test_stale_entries(part: Part, entries: set[str]) -> None:
    assert PRODUCT_RULES.stale([applied(part)]).entries == entries


@pytest.mark.parametrize(
    ("document", "listings"),
    [
        (applied(product_part()), {"category:kitchen"}),
        (applied(product_part(category=None)), set()),
        (applied(price_part(), None, "kitchen"), {"category:kitchen"}),
        (applied(stock_part(), None, "kitchen"), {"category:kitchen"}),
        (applied(product_part(2, "delete"), {"category": "kitchen"}), {"category:kitchen"}),
        (
            applied(product_part(2, category="garden"), {"category": "kitchen"}, "garden"),
            {"category:kitchen", "category:garden"},
        ),
        (
            applied(product_part(2, category="garden"), None, "garden", "kitchen", "tea"),
            {"category:kitchen", "category:garden", "category:tea"},
        ),
    ],
    ids=["product", "of no category", "price", "stock", "deleted", "moved", "moved, and told again"],
)
def test_stale_listings(document: Applied, listings: set[str]) -> None:
    assert PRODUCT_RULES.stale([document]).listings == {SEARCH, *listings}


def test_of_all_changes_of_all_documents() -> None:
    one = Applied(
        "SKU-1",
        [
            Verdict(product_part(2, category="garden"), Decision.APPLIED, None, {"category": "kitchen"}),
            Verdict(product_part(1, category="tea"), Decision.SUPERSEDED),
            Verdict(price_part(currency="EUR"), Decision.APPLIED),
            Verdict(price_part(currency="USD"), Decision.DUPLICATE),
        ],
        1,
        Stamps(0, 0, 0, 0),
        {"category": ["garden"]},
    )

    assert PRODUCT_RULES.stale([one, applied(stock_part(sku="SKU-2"))]) == Stale(
        {"product:SKU-1", "price:SKU-1:EUR", "price:SKU-1:USD", "product:SKU-2"},
        {SEARCH, "category:garden", "category:kitchen", "category:tea"},
    )
    assert PRODUCT_RULES.stale([]) == Stale(set(), set())


def test_of_customers_each_profile_is_stale() -> None:
    documents = [applied(product_part(sku=sku)) for sku in ("1", "2")]
    assert CUSTOMER_RULES.stale(documents) == Stale({"customer:1", "customer:2"}, set())
