"""A part, and the change in it, survive a snapshot."""

from copy import deepcopy

import pytest

from syncline.model.change import Change
from syncline.model.message import Message
from syncline.model.part import Part
from tests.changes import price_part, product_part, stock_part, with_correction

PARTS = [
    product_part(7, name="😀"),
    price_part(1, "delete"),
    with_correction(stock_part(3, is_first=True), 2),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.entity)
def test_a_part_is_itself_again_with_all_its_types(part: Part) -> None:
    again = Part.from_plain(deepcopy(part.to_plain()))

    assert again == part
    assert (again.transformed_at_us, again.version.row) == (part.transformed_at_us, part.version.row)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.entity)
def test_a_change_is_itself_again_with_all_its_types(part: Part) -> None:
    plain = part.change.to_plain()
    again = Change.from_plain(deepcopy(plain))

    assert again == part.change
    assert str(again.entity) == str(part.change.entity)
    assert (again.version.row, again.message.position) == (part.version.row, part.change.message.position)


def test_a_message_is_itself_again() -> None:
    message = Message("topic", 3, 9, None, b"\xff", (("id", b"\0"), ("none", None)), 1, 2)

    again = Message.from_plain(deepcopy(message.to_plain()))

    assert again == message
    assert again.position == "topic/3@9"
