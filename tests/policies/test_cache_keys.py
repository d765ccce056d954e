"""A change makes stale the product's page, the price by itself, and the listings of the category."""

from typing import Any

import pytest

from syncline.model.decision import Applied, Decision, Stamps, Verdict
from syncline.model.part import Part
from syncline.policies.cache_keys import cache_keys, customer_cache_keys
from tests.changes import price_part, product_part, stock_part


def applied(part: Part, replaced: dict[str, Any] | None = None) -> Applied:
    verdict = Verdict(part, Decision.APPLIED, None, replaced)
    return Applied(part.document_id, [verdict], 1, Stamps(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("part", "keys"),
    [
        (product_part(), {"product:SKU-1", "category:kitchen"}),
        (product_part(category=None), {"product:SKU-1"}),
        (price_part(), {"product:SKU-1", "price:SKU-1:EUR"}),
        (price_part(2, "delete"), {"product:SKU-1", "price:SKU-1:EUR"}),
        (stock_part(), {"product:SKU-1"}),
        (stock_part(2, "delete"), {"product:SKU-1"}),
    ],
    ids=["product", "product of no category", "price", "deleted price", "stock", "deleted stock"],
)
def test_stale_keys(part: Part, keys: set[str]) -> None:
    assert cache_keys([applied(part)]) == keys


@pytest.mark.parametrize(
    "part", [product_part(2, "delete"), product_part(2, category="garden")], ids=["deleted", "moved"]
)
def test_the_listings_that_a_product_leaves_are_stale_too(part: Part) -> None:
    assert "category:kitchen" in cache_keys([applied(part, {"category": "kitchen"})])


def test_the_keys_of_all_changes_of_all_documents_are_stale() -> None:
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
    )

    assert cache_keys([one, applied(stock_part(sku="SKU-2"))]) == {
        "product:SKU-1",
        "category:garden",
        "category:kitchen",
        "category:tea",
        "price:SKU-1:EUR",
        "price:SKU-1:USD",
        "product:SKU-2",
    }
    assert cache_keys([]) == set()


def test_of_customers_each_profile_is_stale() -> None:
    documents = [applied(product_part(sku=sku)) for sku in ("1", "2")]
    assert customer_cache_keys(documents) == {"customer:1", "customer:2"}
