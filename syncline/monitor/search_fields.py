"""The fields of a search document, each with its owner and the rule that made it. Pure.

It restates the mapping in words; a test holds the two together.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from syncline.monitor.explanation import MappedField
from syncline.monitor.search_comparison import entity_of
from syncline.policies.ownership import SEARCH_ENTITIES

OWNERS = {policy.type: policy.owner for policy in SEARCH_ENTITIES}
TABLES = {"product": "catalog.products", "price": "pricing.prices", "stock": "warehouse.stock"}

TRANSFORMS: Mapping[str, str] = {
    "as_is": "as it is",
    "e4": "times 10,000, a whole number",
    "utc": "in UTC, none where it is open",
}
"""By name, in words."""
_NO_RULE = "no rule makes this field"


class ColumnRule(NamedTuple):
    column: str
    transform: str = "as_is"


COLUMN_RULES: Mapping[str, Mapping[str, ColumnRule]] = {
    "product": {
        field: ColumnRule(field)
        for field in ("name", "description", "brand", "category", "attributes", "tags", "status")
    },
    "price": {
        "list_e4": ColumnRule("list_amount", "e4"),
        "sale_e4": ColumnRule("sale_amount", "e4"),
        "valid_from": ColumnRule("valid_from", "utc"),
        "valid_to": ColumnRule("valid_to", "utc"),
    },
    "stock": {"on_hand": ColumnRule("on_hand"), "reserved": ColumnRule("reserved")},
}
"""By entity type and field of its part."""

SUMS: Mapping[str, str] = {
    "on_hand": "the sum over all warehouses",
    "reserved": "the sum over all warehouses",
    "available": "on_hand less reserved",
    "in_stock": "whether any is available",
}


def search_fields(sku: str, content: Mapping[str, Any]) -> dict[str, MappedField]:
    """Every field of the document (without its ``_sync``), by path."""
    return dict(_search_fields(sku, content))


def _search_fields(sku: str, content: Mapping[str, Any]) -> Iterator[tuple[str, MappedField]]:
    known = {"sku", "prices", "stock", "_sync", *COLUMN_RULES["product"]}
    yield from _part(
        "product", "", sku, {key: content[key] for key in content if key in COLUMN_RULES["product"]}
    )
    for currency, body in sorted(_object(content.get("prices")).items()):
        yield from _part("price", currency, sku, _object(body))
    stock = _object(content.get("stock"))
    warehouses = _object(stock.get("by_warehouse"))
    entities = tuple(entity_of("stock", warehouse, sku) for warehouse in sorted(warehouses))
    for field in stock:
        if field != "by_warehouse":
            rule = SUMS.get(field, _NO_RULE)
            yield f"stock.{field}", MappedField(stock[field], entities, OWNERS["stock"], rule)
    for warehouse, body in sorted(warehouses.items()):
        yield from _part("stock", warehouse, sku, _object(body))
    for field in content.keys() - known:
        yield field, MappedField(content[field], (), "nobody", _NO_RULE)


def _part(
    entity_type: str, slot: str, sku: str, body: Mapping[str, Any]
) -> Iterator[tuple[str, MappedField]]:
    prefix = {"product": "", "price": f"prices.{slot}.", "stock": f"stock.by_warehouse.{slot}."}[entity_type]
    for field, value in body.items():
        rule = COLUMN_RULES[entity_type].get(field)
        words = _NO_RULE
        if rule is not None:
            words = f"{TABLES[entity_type]}.{rule.column}, {TRANSFORMS[rule.transform]}"
        entities = (entity_of(entity_type, slot, sku),)
        yield f"{prefix}{field}", MappedField(value, entities, OWNERS[entity_type], words)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
