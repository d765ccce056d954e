"""The fields of a search document, each with its owner and the rule of the policies that made it. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from syncline.monitor.explanation import MappedField
from syncline.monitor.search_comparison import entity_of
from syncline.policies.policies import FlowPolicy

TRANSFORMS: Mapping[str, str] = {
    "as_is": "as it is",
    "e4": "times 10,000, a whole number",
    "utc": "in UTC, none where it is open",
    "lower": "in lower case",
    "trim": "without blanks around it",
}
"""By name, in words."""
SUMS: Mapping[str, str] = {
    "on_hand": "the sum over all warehouses",
    "reserved": "the sum over all warehouses",
    "available": "on_hand less reserved",
    "in_stock": "whether any is available",
}
_NO_RULE = "no rule makes this field"
_SECTIONS: Mapping[str, str] = {
    "product": "",
    "price": "prices.{slot}.",
    "stock": "stock.by_warehouse.{slot}.",
}


class SearchFields:
    """By what the policies say."""

    def __init__(self, policy: FlowPolicy) -> None:
        self.owners = {file.entity: file.owner for file in policy.files}
        self.tables = {file.entity: file.source.table for file in policy.files}
        self._sources = {file.entity: file.flows[policy.name].fields for file in policy.files}

    def of(self, sku: str, content: Mapping[str, Any]) -> dict[str, MappedField]:
        """Every field of the document (without its ``_sync``), by path."""
        return dict(self._all(sku, content))

    def _all(self, sku: str, content: Mapping[str, Any]) -> Iterator[tuple[str, MappedField]]:
        product = self._sources.get("product", {})
        yield from self._part("product", "", sku, {key: content[key] for key in content if key in product})
        for currency, body in sorted(_object(content.get("prices")).items()):
            yield from self._part("price", currency, sku, _object(body))
        stock = _object(content.get("stock"))
        warehouses = _object(stock.get("by_warehouse"))
        entities = tuple(entity_of("stock", warehouse, sku) for warehouse in sorted(warehouses))
        for field in stock:
            if field != "by_warehouse":
                rule = SUMS.get(field, _NO_RULE)
                yield (
                    f"stock.{field}",
                    MappedField(stock[field], entities, self.owners.get("stock", "nobody"), rule),
                )
        for warehouse, body in sorted(warehouses.items()):
            yield from self._part("stock", warehouse, sku, _object(body))
        for field in content.keys() - {"sku", "prices", "stock", "_sync", *product}:
            yield field, MappedField(content[field], (), "nobody", _NO_RULE)

    def _part(
        self, entity_type: str, slot: str, sku: str, body: Mapping[str, Any]
    ) -> Iterator[tuple[str, MappedField]]:
        prefix = _SECTIONS[entity_type].format(slot=slot)
        for field, value in body.items():
            entities = (entity_of(entity_type, slot, sku),)
            yield (
                f"{prefix}{field}",
                MappedField(value, entities, self.owners[entity_type], self._rule(entity_type, field)),
            )

    def _rule(self, entity_type: str, field: str) -> str:
        source = self._sources[entity_type].get(field)
        if source is None:
            return _NO_RULE
        then = "" if source.python is None else f", then {source.python}"
        return f"{self.tables[entity_type]}.{source.from_}, {TRANSFORMS[source.transform]}{then}"


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
