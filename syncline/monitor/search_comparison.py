"""One search document against its sources, field by field. Pure: no server is asked here.

Values are equal when they are the same JSON: ``true`` is not 1, and ``null`` is not an absent field.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from syncline.model.version import OpRank
from syncline.monitor.open_quarantine import OpenQuarantine

Document = Mapping[str, Any]

_ROW_VERSION, _OP_RANK, _CORRECTION = 1, 2, 3
"""Places in a version as the copy keeps it."""
_BESIDE_THE_PRODUCT = frozenset({"sku", "prices", "stock", "_sync"})


class SourcePart(NamedTuple):
    """A row, as the document should show it."""

    type: str
    slot: str
    """The currency, the warehouse, or ``""``."""
    version: int
    body: dict[str, Any] | None
    """``None`` where the flow does not want the row: the copy has its version and nothing else of it."""


Parts = Mapping[str, SourcePart]
"""By entity, such as ``price:EUR:SKU-1``."""


class Difference(NamedTuple):
    """A field, and what the two sides say: JSON, or ``None`` where one says nothing."""

    field: str
    source: str | None
    copy: str | None


class Finding(StrEnum):
    EQUAL = "equal"
    EXPLAINED = "explained"
    DIFFERING = "differing"


class Verdict(NamedTuple):
    finding: Finding
    differences: tuple[Difference, ...] = ()
    explained_by: tuple[str, ...] = ()
    """Entities whose present state waits in quarantine, or was corrected there."""


def entity_of(entity_type: str, slot: str, sku: str) -> str:
    return f"{entity_type}:{slot}:{sku}" if slot else f"{entity_type}:{sku}"


def is_equal(sku: str, parts: Parts, copy: Document | None) -> bool:
    """The quick answer, for the many."""
    if copy is None or not parts:
        return next(_differences(sku, parts, copy), None) is None
    return _canonical(expected_document(sku, parts)) == _canonical(_content(copy)) and not any(
        _sync_differences(parts, copy)
    )


def compare(sku: str, parts: Parts, copy: Document | None, quarantine: OpenQuarantine) -> Verdict:
    """All that differs, and whether quarantine explains it.

    It does where the document is right once the entities that wait there are taken as the copy has them.
    """
    differences = tuple(_differences(sku, parts, copy))
    if not differences:
        return Verdict(Finding.EQUAL)
    waiting = tuple(_waiting(parts, copy, quarantine))
    if not waiting:
        return Verdict(Finding.DIFFERING, differences)
    unexplained = tuple(_differences(sku, _as_copy_has_them(waiting, sku, parts, copy), copy))
    if not unexplained:
        return Verdict(Finding.EXPLAINED, differences, waiting)
    return Verdict(Finding.DIFFERING, unexplained, waiting)


def expected_document(sku: str, parts: Parts) -> dict[str, Any]:
    """The document without its ``_sync`` block."""
    document: dict[str, Any] = {"sku": sku, "prices": {}}
    warehouses: dict[str, dict[str, Any]] = {}
    for part in parts.values():
        if part.body is None:
            continue
        if part.type == "product":
            document.update(part.body)
        elif part.type == "price":
            document["prices"][part.slot] = part.body
        else:
            warehouses[part.slot] = part.body
    on_hand = sum(_count(body.get("on_hand")) for body in warehouses.values())
    reserved = sum(_count(body.get("reserved")) for body in warehouses.values())
    document["stock"] = {
        "on_hand": on_hand,
        "reserved": reserved,
        "available": on_hand - reserved,
        "in_stock": on_hand > reserved,
        "by_warehouse": warehouses,
    }
    return document


def _count(value: object) -> int:
    return value if type(value) is int else 0


def _differences(sku: str, parts: Parts, copy: Document | None) -> Iterator[Difference]:
    if copy is None:
        if parts:
            yield Difference("the whole document", _json(expected_document(sku, parts)), None)
    elif not parts and not _entities(copy):
        yield Difference("the whole document", None, _json(_content(copy)))
    else:
        yield from _field_differences("", expected_document(sku, parts), _content(copy))
        yield from _sync_differences(parts, copy)


def _field_differences(path: str, source: object, copy: object) -> Iterator[Difference]:
    if isinstance(source, dict) and isinstance(copy, dict):
        for field in sorted(source.keys() | copy.keys()):
            here = f"{path}.{field}" if path else field
            if field not in copy:
                yield Difference(here, _json(source[field]), None)
            elif field not in source:
                yield Difference(here, None, _json(copy[field]))
            else:
                yield from _field_differences(here, source[field], copy[field])
    elif _canonical(source) != _canonical(copy):
        yield Difference(path, _json(source), _json(copy))


def _sync_differences(parts: Parts, copy: Document) -> Iterator[Difference]:
    """Equal fields are not enough: with an older version on record, an older change may come in."""
    sync = copy.get("_sync")
    hidden = sync.get("hidden") if isinstance(sync, dict) else None
    should_hide = all(part.type != "product" or part.body is None for part in parts.values())
    if hidden is not should_hide:
        yield Difference("_sync.hidden", _json(should_hide), _json(hidden))
    entities = _entities(copy)
    for entity, part in parts.items():
        if _known(entities, entity) != (part.version, OpRank.UPSERT):
            yield Difference(_version_field(entity), _json(part.version), _version_json(entities, entity))
    for entity in sorted(entities.keys() - parts.keys()):
        known = _known(entities, entity)
        if known is None or known[1] != OpRank.DELETE:
            yield Difference(_version_field(entity), None, _version_json(entities, entity))


def _waiting(parts: Parts, copy: Document | None, quarantine: OpenQuarantine) -> Iterator[str]:
    """Entities whose present state waits in quarantine, while the copy has an earlier one; or left it as a
    person corrected it, which is what the copy has."""
    entities = _entities(copy)
    for entity, part in parts.items():
        known = _known(entities, entity)
        if known is None or known[0] < part.version:
            if quarantine.has_upsert(entity, part.version):
                yield entity
        elif _is_corrected(entities, entity) and quarantine.has_corrected(entity, part.version):
            yield entity
    for entity in sorted(entities.keys() - parts.keys()):
        known = _known(entities, entity)
        if known is not None and known[1] == OpRank.UPSERT and quarantine.has_delete_from(entity, known[0]):
            yield entity


def _as_copy_has_them(taken: tuple[str, ...], sku: str, parts: Parts, copy: Document | None) -> Parts:
    entities = _entities(copy)
    mixed = {entity: part for entity, part in parts.items() if entity not in taken}
    for entity in taken:
        known = _known(entities, entity)
        if copy is None or known is None or known[1] == OpRank.DELETE:
            continue
        entity_type, _, entity_id = entity.partition(":")
        slot = "" if entity_type == "product" else entity_id.removesuffix(f":{sku}")
        body = _body(entity_type, slot, copy)
        if isinstance(body, dict):
            mixed[entity] = SourcePart(entity_type, slot, known[0], body)
    return mixed


def _body(entity_type: str, slot: str, copy: Document) -> object:
    """What the entity contributes to the copy."""
    if entity_type == "product":
        return {field: value for field, value in copy.items() if field not in _BESIDE_THE_PRODUCT}
    section = copy.get("prices") if entity_type == "price" else copy.get("stock")
    if entity_type == "stock" and isinstance(section, dict):
        section = section.get("by_warehouse")
    return section.get(slot) if isinstance(section, dict) else None


def _content(copy: Document) -> dict[str, Any]:
    return {field: value for field, value in copy.items() if field != "_sync"}


def _entities(copy: Document | None) -> dict[str, Any]:
    sync = (copy or {}).get("_sync")
    entities = sync.get("entities") if isinstance(sync, dict) else None
    return entities if isinstance(entities, dict) else {}


def _known(entities: Mapping[str, Any], entity: str) -> tuple[int, int] | None:
    """The row version and the rank of the operation that the copy has on record."""
    entry = entities.get(entity)
    version = entry.get("version") if isinstance(entry, dict) else None
    if not isinstance(version, list) or len(version) <= _OP_RANK:
        return None
    known = version[_ROW_VERSION], version[_OP_RANK]
    return known if type(known[0]) is int and type(known[1]) is int else None


def _is_corrected(entities: Mapping[str, Any], entity: str) -> bool:
    version = entities[entity]["version"]
    return len(version) > _CORRECTION and bool(version[_CORRECTION])


def _version_field(entity: str) -> str:
    return f"_sync.entities.{entity}.version"


def _version_json(entities: Mapping[str, Any], entity: str) -> str | None:
    if entity not in entities:
        return None
    entry = entities[entity]
    return _json(entry.get("version") if isinstance(entry, dict) else entry)


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
