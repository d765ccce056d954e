"""Why a search document says what it says: gathers what the servers know of one SKU."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from syncline.model.change import EntityKey
from syncline.monitor.audited_conflicts import Search, in_utc, read_conflicts
from syncline.monitor.explanation import Explanation, Facts, SourceEntity, SourceRow, explain
from syncline.monitor.freshness import lowest_watermark_us
from syncline.monitor.overdue_references import FLOW, OverdueReference, overdue_in
from syncline.monitor.search_comparison import Parts, entity_of, expected_document
from syncline.monitor.search_copy import SearchCopy
from syncline.monitor.search_fields import SearchFields
from syncline.monitor.search_sources import SearchSources
from syncline.monitor.source_rows import read_rows
from syncline.monitor.sync_records import records_of
from syncline.monitor.waiting_changes import read_quarantined, read_retrying, read_unpublished
from syncline.policies.policies import FlowPolicy
from syncline.policies.reading import load_policies
from syncline.postgres import connect
from syncline.settings import Settings

ROAD = ("outbox_relay", FLOW)


def explain_product(settings: Settings, sku: str) -> Explanation:
    """Look at the watermark, the copy, the sources and what waits, in this order."""
    policies = load_policies(settings.policies_dir)
    policy = policies.flow(FLOW)
    mapped = SearchFields(policy)
    with connect(settings.postgres_dsn.get_secret_value(), "syncline-explain") as connection:
        reached_us = lowest_watermark_us(connection, FLOW, settings)
        document = _document(settings, sku)
        parts, rows = _sources(settings, policy, sku)
        (looked_at,) = connection.execute("SELECT clock_timestamp()").fetchone() or (datetime.now(UTC),)
        unpublished = list(read_unpublished(settings.outbox_dsns(mapped.owners.values()), sku))
        retries = read_retrying(connection, sku, FLOW)
        quarantine = read_quarantined(connection, sku, ROAD)
        records = records_of(document)
        waiting = [
            entity
            for name in (*(each.entity for each in quarantine), *(each.entity for each in retries))
            if (entity := _entity_of_this(name, sku, mapped.owners))
        ]
        names = {
            *records,
            *parts,
            *waiting,
            *(each.entity for each in unpublished if each.entity is not None),
        }
        keys = [EntityKey(*name.split(":", 1)) for name in names]
        conflicts = read_conflicts(connection, Search(flow=FLOW, entities=keys))
    copy = document or {}
    overdue: Sequence[OverdueReference] = ()
    if document is not None and document["_sync"]["hidden"]:
        overdue = overdue_in(sku, document, policies.references(FLOW), looked_at)
    return explain(
        Facts(
            document=EntityKey("product", sku),
            flow=FLOW,
            copy=settings.search_alias,
            is_known=document is not None,
            is_hidden=copy["_sync"]["hidden"] if document is not None else None,
            should_be_hidden=entity_of("product", "", sku) not in parts,
            hidden_because=_hidden_because(sku, records, parts, overdue),
            document_version=copy["_sync"]["version"] if document is not None else None,
            records=records,
            entities={name: _entity(name, rows, mapped) for name in names},
            fields=mapped.of(sku, copy),
            source_fields=mapped.of(sku, expected_document(sku, parts) if parts or document else {}),
            conflicts=conflicts,
            reviews=(),
            quarantine=quarantine,
            retries=retries,
            unpublished=unpublished,
            fresh_until=None if reached_us is None else datetime.fromtimestamp(reached_us / 1e6, UTC),
            looked_at=in_utc(looked_at),
        )
    )


def _document(settings: Settings, sku: str) -> dict[str, Any] | None:
    url = settings.elasticsearch_url.get_secret_value()
    with closing(SearchCopy(url, settings.search_alias)) as copy:
        return copy.some([sku]).get(sku)


def _sources(settings: Settings, policy: FlowPolicy, sku: str) -> tuple[Parts, dict[str, SourceRow]]:
    """What the rows say, and when they were committed."""
    with closing(SearchSources(settings.outbox_dsns(policy.owners), policy)) as sources:
        parts = sources.some([sku]).get(sku, {})
    committed: dict[str, SourceRow] = {}
    for file in policy.files:
        dsn, source = settings.outbox_dsns([file.owner])[file.owner], file.source
        for slot, read in read_rows(dsn, source.table, source.document, source.slot, sku).items():
            committed[entity_of(file.entity, slot, sku)] = read.row
    rows: dict[str, SourceRow] = {}
    for entity, part in parts.items():
        dated = committed.get(entity)
        if dated is None or dated.version != part.version:
            # Written again since it was read: what was read is no longer there to be dated.
            dated = SourceRow(part.version, None)
        rows[entity] = dated
    return parts, rows


def _entity(name: str, rows: dict[str, SourceRow], mapped: SearchFields) -> SourceEntity:
    entity_type = name.partition(":")[0]
    owner = mapped.owners[entity_type]
    return SourceEntity(owner, owner, mapped.tables[entity_type], rows.get(name), name)


def _entity_of_this(entity: str | None, sku: str, owners: Mapping[str, str]) -> str | None:
    """A message may claim anything: only what is of this document counts."""
    if entity is None:
        return None
    entity_type, _, entity_id = entity.partition(":")
    is_ours = entity_id == sku if entity_type == "product" else entity_id.endswith(f":{sku}")
    return entity if entity_type in owners and is_ours else None


def _hidden_because(
    sku: str, records: dict[str, Any], parts: Parts, overdue: Sequence[OverdueReference]
) -> str:
    product = entity_of("product", "", sku)
    record = records.get(product)
    if record is None:
        there = "the catalog has it" if product in parts else "the catalog does not have it either"
        because = f"its product never came; {there}"
        if overdue:
            since = min(each.overdue_since for each in overdue)
            names = ", ".join(str(each.entity) for each in overdue)
            because += f"; overdue since {since:%Y-%m-%d %H:%M:%S} UTC: {names}"
        return because
    return f"its product was deleted, as of version {record.row_version}"
