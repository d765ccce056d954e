"""A part is checked by all rules of its entity's type, and all complaints are told at once."""

from operators.validate import Validate
from syncline.model.errors import Invalid
from syncline.model.part import Part
from tests.changes import price_part, product_part


def complains(part: Part) -> str | None:
    return f"complaint of {part.entity}"


def is_content(part: Part) -> str | None:
    return None


def test_a_part_that_keeps_all_rules_is_valid() -> None:
    assert Validate({"product": [is_content, is_content]})(product_part()) is None


def test_every_complaint_is_told() -> None:
    error = Validate({"product": [complains, is_content, complains]})(product_part())

    assert isinstance(error, Invalid)
    assert str(error) == "complaint of product:SKU-1; complaint of product:SKU-1"


def test_rules_are_asked_only_of_their_own_type() -> None:
    validate = Validate({"product": [complains]})

    assert validate(price_part()) is None


def test_a_delete_breaks_no_rule() -> None:
    assert Validate({"product": [complains]})(product_part(1, "delete")) is None
