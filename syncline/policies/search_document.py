"""The search document: how the parts of three owners make it up. Policies say how rows become parts.

Amounts are kept as whole numbers of 1/10,000 (``list_e4``): 12.90 is 129000. So no sum is ever rounded.
"""

from collections.abc import Iterable, Sequence

from syncline.model.decision import Review
from syncline.model.document import Body, Detected, Document, empty_sync_block
from syncline.model.part import Part
from syncline.policies.cache_keys import PRODUCT_RULES
from syncline.policies.documents import DOCUMENTS

_NO_CONFLICTS = Detected(())
PRODUCT_FIELDS = tuple(DOCUMENTS["catalog_search"]["product"].fields)


class SearchDocument:
    """The shape of the index ``products``: one document a SKU."""

    listed_by = tuple(PRODUCT_RULES.listed_by)

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

    def conflicts(self, document: Document, parts: Iterable[Part]) -> Detected:  # noqa: ARG002
        """Each entity has one writer."""
        return _NO_CONFLICTS

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
