"""A document's changes go down one lane, in order; a watermark goes down all of them."""

from operators.lanes import LANES, LaneBatch, group_by_lane, lane_of
from syncline.model.change import Watermark
from tests.changes import price_part, product_part, stock_part


def test_a_document_s_lane_is_fixed_for_ever() -> None:
    lanes = {sku: lane_of(sku) for sku in ("SKU-1", "SKU-2", "Ünïcode", "😀", "")}

    assert lanes == {"SKU-1": "04", "SKU-2": "14", "Ünïcode": "12", "😀": "04", "": "00"}
    assert tuple(f"{number:02}" for number in range(16)) == LANES


def test_parts_of_one_document_stay_together_and_in_order() -> None:
    parts = [product_part(1), price_part(1), product_part(2), stock_part(1)]

    assert list(group_by_lane(parts)) == [("04", LaneBatch("04", parts, []))]


def test_without_a_watermark_only_lanes_with_parts_are_woken() -> None:
    parts = [product_part(sku=sku) for sku in ("SKU-1", "SKU-2")]

    assert [lane for lane, _ in group_by_lane(parts)] == ["04", "14"]


def test_a_watermark_speaks_for_all_lanes() -> None:
    mark = Watermark("syncline.catalog.product", 3, 77)

    grouped = dict(group_by_lane([product_part(), mark]))

    assert list(grouped) == list(LANES)
    assert all(batch.watermarks == [mark] for batch in grouped.values())
    assert {lane for lane, batch in grouped.items() if batch.parts} == {"04"}


def test_nothing_wakes_no_lane() -> None:
    assert list(group_by_lane([])) == []
