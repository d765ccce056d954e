"""A change makes stale the product's page, the price by itself, and the listings of the category."""

from typing import Any

import pytest

from syncline.model.decision import Applied, Decision, Stamps
from syncline.model.part import Part
from syncline.policies.cache_keys import cache_keys
from tests.changes import price_part, product_part, stock_part


def applied(part: Part, replaced: dict[str, Any] | None = None) -> Applied:
    return Applied(part, Decision.APPLIED, 1, Stamps(0, 0, 0, 0), replaced)


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
    assert set(cache_keys(applied(part))) == keys


@pytest.mark.parametrize(
    "part", [product_part(2, "delete"), product_part(2, category="garden")], ids=["deleted", "moved"]
)
def test_the_listings_that_a_product_leaves_are_stale_too(part: Part) -> None:
    assert "category:kitchen" in set(cache_keys(applied(part, {"category": "kitchen"})))
