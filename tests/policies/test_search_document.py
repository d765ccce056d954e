"""How parts make up the search document, whatever their order."""

from itertools import permutations

from syncline.model.document import Document
from syncline.model.part import Part
from syncline.policies.search_document import SearchDocument
from tests.changes import price_part, product_part, stock_part

shape = SearchDocument()


def made_of(*parts: Part) -> Document:
    document = shape.empty("SKU-1")
    for part in parts:
        shape.put(document, part)
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
