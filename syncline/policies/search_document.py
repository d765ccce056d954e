"""The search document: how rows of three owners become its parts, and its parts the document.

Amounts are kept as whole numbers of 1/10,000 (``list_e4``): 12.90 is 129000. So no sum is ever rounded.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from syncline.model.document import Body, Document, empty_sync_block
from syncline.model.entities import Price, Product, Stock
from syncline.model.part import Part

PRODUCT_FIELDS = ("name", "description", "brand", "category", "attributes", "tags", "status")


def _e4(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount.scaleb(4))


def _iso(moment: datetime | None) -> str | None:
    """With microseconds and a ``Z``: the moments of an entity are in UTC."""
    return None if moment is None else moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _product_body(fields: Mapping[str, Any]) -> Body:
    row = Product.model_validate(fields)
    return {field: getattr(row, field) for field in PRODUCT_FIELDS}


def _price_body(fields: Mapping[str, Any]) -> Body:
    row = Price.model_validate(fields)
    return {
        "list_e4": _e4(row.list_amount),
        "sale_e4": _e4(row.sale_amount),
        "valid_from": _iso(row.valid_from),
        "valid_to": _iso(row.valid_to),
    }


def _stock_body(fields: Mapping[str, Any]) -> Body:
    row = Stock.model_validate(fields)
    return {"on_hand": row.on_hand, "reserved": row.reserved}


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
        replaced = _put_slot(document["stock"]["by_warehouse"], part)
        _add_up(document["stock"])
        return replaced

    def is_hidden(self, document: Document) -> bool:
        """Only the product itself makes a document worth showing; ``name`` is there exactly with it."""
        return "name" not in document


def _put_product(document: Document, body: Body | None) -> Body | None:
    replaced = {field: document.pop(field) for field in PRODUCT_FIELDS if field in document}
    if body is not None:
        document.update(body)
    return replaced or None


def _put_slot(section: Body, part: Part) -> Body | None:
    replaced: Body | None = section.pop(part.slot, None)
    if part.body is not None:
        section[part.slot] = part.body
    return replaced


def _add_up(stock: Body) -> None:
    warehouses = stock["by_warehouse"].values()
    stock["on_hand"] = sum(warehouse["on_hand"] for warehouse in warehouses)
    stock["reserved"] = sum(warehouse["reserved"] for warehouse in warehouses)
    stock["available"] = stock["on_hand"] - stock["reserved"]
    stock["in_stock"] = stock["available"] > 0
