"""How parts make up the search document, whatever their order."""

from copy import deepcopy
from itertools import permutations

import pytest

from syncline.model.document import Document
from syncline.model.part import Part
from syncline.policies.search_document import PRODUCT_FIELDS, SearchDocument
from tests.changes import SEARCH, price_part, product, product_part, stock_part

shape = SearchDocument()


def made_of(*parts: Part) -> Document:
    document = shape.empty("SKU-1")
    for part in parts:
        shape.put(document, part)
    shape.add_up(document)
    return document


def test_stock_of_several_warehouses_adds_up() -> None:
    document = made_of(
        stock_part(warehouse_id="W1", on_hand=10, reserved=3),
        stock_part(warehouse_id="W2", on_hand=5, reserved=5),
    )

    assert document["stock"] == {
        "on_hand": 15,
        "reserved": 8,
        "available": 7,
        "in_stock": True,
        "by_warehouse": {"W1": {"on_hand": 10, "reserved": 3}, "W2": {"on_hand": 5, "reserved": 5}},
    }


def test_nothing_available_is_not_in_stock() -> None:
    assert made_of(stock_part(on_hand=3, reserved=3))["stock"]["in_stock"] is False


def test_the_stock_of_a_warehouse_is_replaced_and_not_added() -> None:
    assert made_of(stock_part(1, on_hand=10), stock_part(2, on_hand=4))["stock"]["on_hand"] == 4


def test_what_was_deleted_leaves_no_trace_in_its_section() -> None:
    document = made_of(
        product_part(),
        price_part(),
        stock_part(),
        product_part(1, "delete"),
        price_part(1, "delete"),
        stock_part(1, "delete"),
    )

    assert document == shape.empty("SKU-1")


def test_deleting_what_never_was_is_no_error() -> None:
    assert made_of(price_part(1, "delete"), product_part(1, "delete")) == shape.empty("SKU-1")


def test_one_currency_leaves_the_other_alone() -> None:
    document = made_of(
        price_part(currency="EUR"), price_part(currency="USD"), price_part(1, "delete", currency="USD")
    )

    assert list(document["prices"]) == ["EUR"]


def test_only_the_product_makes_a_document_worth_showing() -> None:
    assert shape.is_hidden(made_of(price_part(), stock_part()))
    assert not shape.is_hidden(made_of(product_part()))
    assert shape.is_hidden(made_of(product_part(), product_part(1, "delete")))
    assert not shape.is_hidden(made_of(product_part(1, "delete"), product_part(2)))


def test_parts_of_different_entities_may_come_in_any_order() -> None:
    parts = [product_part(), price_part(), stock_part(warehouse_id="W1"), stock_part(warehouse_id="W2")]

    documents = [made_of(*order) for order in permutations(parts)]

    assert all(document == documents[0] for document in documents)


def test_a_product_replaces_all_of_its_own_fields() -> None:
    document = made_of(product_part(), product_part(2, name="Pot", brand=None, attributes={"size": 2}))

    assert (document["name"], document["brand"], document["attributes"]) == ("Pot", None, {"size": 2})


def test_what_stood_in_a_part_s_place_is_answered() -> None:
    document = made_of(product_part(), price_part(), stock_part())

    for old, new in (
        (product_part(), product_part(2, name="Pot")),
        (price_part(), price_part(2, list_amount="1")),
        (stock_part(), stock_part(2, "delete")),
    ):
        assert shape.put(document, new) == old.body
    assert shape.put(document, stock_part(3)) is None
    assert shape.put(document, price_part(currency="USD")) is None
    assert shape.put(document, product_part(3, "delete")) == product_part(2, name="Pot").body
    assert shape.put(document, product_part(4)) is None


def test_sums_are_brought_up_to_date_when_the_last_warehouse_goes() -> None:
    document = made_of(stock_part())
    shape.put(document, stock_part(1, "delete"))
    shape.add_up(document)

    assert document == shape.empty("SKU-1")


@pytest.mark.parametrize(
    ("entity_type", "row"),
    [
        ("product", {"sku": "SKU-1"}),
        ("price", {"sku": "SKU-1", "currency": "EUR"}),
        ("stock", {"sku": "SKU-1", "warehouse_id": "W1", "on_hand": 0, "reserved": 0}),
    ],
)
def test_columns_that_may_be_missing_are_none_in_the_body(entity_type: str, row: dict[str, object]) -> None:
    bodies = {
        "product": dict.fromkeys(PRODUCT_FIELDS),
        "price": {"list_e4": None, "sale_e4": None, "valid_from": None, "valid_to": None},
        "stock": {"on_hand": 0, "reserved": 0},
    }

    assert SEARCH.mapping[entity_type](row) == bodies[entity_type]


def test_a_body_is_no_part_of_the_row_it_came_from() -> None:
    """The row is told in an audit and in a quarantine, after the document was changed."""
    row = product()
    before = deepcopy(row)

    body = SEARCH.mapping["product"](row)
    body["tags"].append("changed")
    body["name"] = "changed"

    assert row == before
