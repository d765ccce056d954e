"""Messages, changes and parts as the flow makes them, for tests: through the real decode and transform."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from operators.decode import Decode
from operators.transform import Transform
from syncline.model import envelope
from syncline.model.change import Change
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.policies.reading import load_policies

TOPIC_PREFIX = "syncline"
SEARCH = load_policies().flow("catalog_search")
PRODUCT = next(policy for policy in SEARCH.entities if policy.type == "product")
TOPICS = {policy.type: policy.topic(TOPIC_PREFIX) for policy in SEARCH.entities}
NOON_US = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC."""

Headers = Sequence[tuple[str, bytes | None]]

decode = Decode(SEARCH.topics(TOPIC_PREFIX))
transform = Transform(SEARCH, lambda: NOON_US)


def product(sku: str = "SKU-1", **columns: object) -> dict[str, Any]:
    """A row of ``catalog.products``."""
    row = {"sku": sku, "name": "Kettle", "description": None, "brand": "Acme", "category": "kitchen"}
    return {**row, "attributes": {"colour": "red"}, "tags": ["new"], "status": "active", **columns}


def price(sku: str = "SKU-1", currency: str = "EUR", **columns: object) -> dict[str, Any]:
    """A row of ``pricing.prices``."""
    row = {"sku": sku, "currency": currency, "list_amount": "12.9000", "sale_amount": None}
    return {**row, "valid_from": "2026-01-01T00:00:00+00:00", "valid_to": "infinity", **columns}


def stock(sku: str = "SKU-1", warehouse_id: str = "W1", **columns: object) -> dict[str, Any]:
    """A row of ``warehouse.stock``."""
    return {"warehouse_id": warehouse_id, "sku": sku, "on_hand": 10, "reserved": 2, **columns}


def entity_of(entity_type: str, row: Mapping[str, Any]) -> str:
    """``price:EUR:SKU-1`` of a row."""
    slot = {"product": (), "price": (row.get("currency"),), "stock": (row.get("warehouse_id"),)}[entity_type]
    return ":".join(map(str, (entity_type, *slot, row["sku"])))


def payload(entity_type: str, row: Mapping[str, Any], version: int = 1, op: str = "upsert") -> dict[str, Any]:
    return {"entity": entity_of(entity_type, row), "op": op, "version": version, "fields": dict(row)}


def message(
    value: Mapping[str, Any] | bytes | None,
    topic: str = TOPICS["product"],
    key: bytes | None = b"SKU-1",
    headers: Headers = (),
    offset: int = 0,
) -> Message:
    """One record of the log, as it is read."""
    raw = orjson.dumps(value) if isinstance(value, Mapping) else value
    return Message(topic, 0, offset, key, raw, tuple(headers), NOON_US, NOON_US)


def change_message(
    entity_type: str,
    row: Mapping[str, Any],
    version: int = 1,
    op: str = "upsert",
    *,
    offset: int = 0,
    is_first: bool = False,
    headers: Headers = (),
) -> Message:
    """A change as the relay publishes it."""
    event = (envelope.EVENT_TYPE, b"created" if is_first else b"updated")
    body = payload(entity_type, row, version, op)
    return message(body, TOPICS[entity_type], str(row["sku"]).encode(), (event, *headers), offset)


def change_of(message: Message) -> Change:
    """The change in a good message."""
    (change,) = decode([message])
    assert isinstance(change, Change), change
    return change


def part_of(message: Message) -> Part:
    """The part in a good message."""
    (part,) = transform([change_of(message)])
    assert isinstance(part, Part), part
    return part


def product_part(version: int = 1, op: str = "upsert", *, is_first: bool = False, **columns: object) -> Part:
    return part_of(change_message("product", {**product(), **columns}, version, op, is_first=is_first))


def price_part(version: int = 1, op: str = "upsert", *, is_first: bool = False, **columns: object) -> Part:
    return part_of(change_message("price", {**price(), **columns}, version, op, is_first=is_first))


def stock_part(version: int = 1, op: str = "upsert", *, is_first: bool = False, **columns: object) -> Part:
    return part_of(change_message("stock", {**stock(), **columns}, version, op, is_first=is_first))


def with_correction(part: Part, correction: int) -> Part:
    """As a person corrected it in quarantine."""
    version = part.change.version._replace(correction=correction)
    return part._replace(change=part.change._replace(version=version))
