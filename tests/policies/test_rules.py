"""Each rule, at both sides of its border, says field, value and what would be right."""

import pytest

from operators.validate import Validate
from syncline.model.errors import Contradictory
from syncline.model.part import Part
from tests.changes import SEARCH, price_part, product_part, stock_part

GOOD: dict[str, Part] = {
    "name": product_part(name="x"),
    "name with blanks around": product_part(name=" x "),
    "only a name": product_part(
        description=None, brand=None, category=None, attributes=None, tags=None, status=None
    ),
    "free of charge": price_part(list_amount="0"),
    "no sale": price_part(list_amount="5", sale_amount=None),
    "sale at the list amount": price_part(list_amount="5", sale_amount="5.0000"),
    "sale for nothing": price_part(list_amount="5", sale_amount="0"),
    "price of one instant": price_part(valid_from="2026-01-01T00:00:00Z", valid_to="2026-01-01T00:00:00Z"),
    "price without an end": price_part(valid_from="2026-01-01T00:00:00Z", valid_to="infinity"),
    "price without a beginning": price_part(valid_from=None, valid_to="2026-01-01T00:00:00Z"),
    "same instant in two time zones": price_part(
        valid_from="2026-01-01T01:00:00+01:00", valid_to="2026-01-01T00:00:00Z"
    ),
    "nothing on hand": stock_part(on_hand=0, reserved=0),
    "all reserved": stock_part(on_hand=7, reserved=7),
    "deleted product": product_part(1, "delete"),
    "deleted price": price_part(1, "delete"),
    "deleted stock": stock_part(1, "delete"),
}

BAD: dict[str, tuple[Part, str]] = {
    "no name": (product_part(name=None), "name: null is empty; it must be there"),
    "empty name": (product_part(name=""), "name: '' is empty; it must be there"),
    "blank name": (product_part(name=" \u2003"), "name: ' \\u2003' is empty; it must be there"),
    "unknown currency": (
        price_part(currency="XXX"),
        "currency: 'XXX' is unknown; it must be one of EUR, USD, GBP, CHF, JPY",
    ),
    "no list amount": (price_part(list_amount=None), "list_amount: null is empty; it must be there"),
    "negative list amount": (
        price_part(list_amount="-0.0001"),
        "list_amount: -0.0001 must be at least 0",
    ),
    "sale above list": (
        price_part(list_amount="5", sale_amount="5.0001"),
        "sale_amount: 5.0001 must be at most list_amount, 5.0000",
    ),
    "negative sale": (
        price_part(list_amount="5", sale_amount="-0.0001"),
        "sale_amount: -0.0001 must be at least 0",
    ),
    "ends before it begins": (
        price_part(valid_from="2026-01-01T00:00:00.000001Z", valid_to="2026-01-01T00:00:00Z"),
        "valid_from: '2026-01-01T00:00:00.000001Z' must be at most valid_to, '2026-01-01T00:00:00.000000Z'",
    ),
    "more reserved than there is": (
        stock_part(on_hand=7, reserved=8),
        "reserved: 8 must be at most on_hand, 7",
    ),
    "negative reserved": (stock_part(on_hand=7, reserved=-1), "reserved: -1 must be at least 0"),
    "negative on hand": (stock_part(on_hand=-1, reserved=0), "reserved: 0 must be at most on_hand, -1"),
}

validate = Validate(SEARCH.rules)


@pytest.mark.parametrize("part", GOOD.values(), ids=GOOD)
def test_a_part_that_keeps_the_rules_is_valid(part: Part) -> None:
    assert validate(part) is None


@pytest.mark.parametrize(("part", "complaint"), BAD.values(), ids=BAD)
def test_a_part_that_breaks_a_rule_is_told_which_and_how(part: Part, complaint: str) -> None:
    error = validate(part)

    assert str(error) == complaint


def test_a_price_that_breaks_two_rules_is_told_both() -> None:
    error = validate(
        price_part(list_amount=None, valid_from="2026-01-02T00:00:00Z", valid_to="2026-01-01T00:00:00Z")
    )

    assert "list_amount" in str(error)
    assert "valid_to" in str(error)
    assert isinstance(error, Contradictory)
