"""The search document: how rows of three owners become its parts, and its parts the document.

Amounts are kept as whole numbers of 1/10,000 (``list_e4``): 12.90 is 129000. So no sum is ever rounded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from syncline.model.decision import Conflict, Review
from syncline.model.document import Body, Document, empty_sync_block
from syncline.model.entities import Price, Product, Stock
from syncline.model.part import Part

PRODUCT_FIELDS = ("name", "description", "brand", "category", "attributes", "tags", "status")
_EMPTY_PRODUCT: Body = dict.fromkeys(PRODUCT_FIELDS)

_product = TypeAdapter(Product).validator.validate_python
_price = TypeAdapter(Price).validator.validate_python
_stock = TypeAdapter(Stock).validator.validate_python


def _product_body(fields: Mapping[str, Any]) -> Body:
    body: Body = {**_EMPTY_PRODUCT, **_product(fields)}
    del body["sku"]
    return body


def _price_body(fields: Mapping[str, Any]) -> Body:
    row: Price = _price(fields)
    return {
        "list_e4": row.get("list_amount"),
        "sale_e4": row.get("sale_amount"),
        "valid_from": row.get("valid_from"),
        "valid_to": row.get("valid_to"),
    }


def _stock_body(fields: Mapping[str, Any]) -> Body:
    row: Stock = _stock(fields)
    return {"on_hand": row["on_hand"], "reserved": row["reserved"]}


SEARCH_MAPPING: Mapping[str, Callable[[Mapping[str, Any]], Body]] = {
    "product": _product_body,
    "price": _price_body,
    "stock": _stock_body,
}
"""By entity type: a row's fields to the part's body. Raises ``pydantic.ValidationError``."""


class SearchDocument:
    """The shape of the index ``products``: one document a SKU."""

    def empty(self, document_id: str) -> Document:
        stock = {"on_hand": 0, "reserved": 0, "available": 0, "in_stock": False, "by_warehouse": {}}
        return {"sku": document_id, "prices": {}, "stock": stock, "_sync": empty_sync_block()}

    def put(self, document: Document, part: Part) -> Body | None:
        entity_type = part.change.entity.type
        if entity_type == "product":
            return _put_product(document, part.body)
        if entity_type == "price":
            return _put_slot(document["prices"], part)
        return _put_slot(document["stock"]["by_warehouse"], part)

    def add_up(self, document: Document) -> None:
        stock = document["stock"]
        on_hand = reserved = 0
        for warehouse in stock["by_warehouse"].values():
            on_hand += warehouse["on_hand"]
            reserved += warehouse["reserved"]
        available = on_hand - reserved
        stock["on_hand"], stock["reserved"] = on_hand, reserved
        stock["available"], stock["in_stock"] = available, available > 0

    def is_hidden(self, document: Document) -> bool:
        """Only the product itself makes a document worth showing; ``name`` is there exactly with it."""
        return "name" not in document

    def conflicts(self, document: Document, parts: Iterable[Part]) -> Sequence[Conflict]:  # noqa: ARG002
        """Each entity has one writer."""
        return ()

    def reviews(self, document: Document) -> Sequence[Review]:  # noqa: ARG002
        return ()


def _put_product(document: Document, body: Body | None) -> Body | None:
    replaced: Body | None = None
    if "name" in document:
        replaced = {field: document.pop(field) for field in PRODUCT_FIELDS}
    if body is not None:
        document.update(body)
    return replaced


def _put_slot(section: Body, part: Part) -> Body | None:
    replaced: Body | None = section.pop(part.slot, None)
    if part.body is not None:
        section[part.slot] = part.body
    return replaced
