"""What a copy has on record of its entities, read from a document's ``_sync`` block."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from syncline.monitor.explanation import CopyRecord


def records_of(document: Mapping[str, Any] | None) -> dict[str, CopyRecord]:
    """By entity; nothing where there is no document."""
    entities = document["_sync"]["entities"] if document is not None else {}
    return {entity: _record(entry) for entity, entry in entities.items()}


def _record(entry: Mapping[str, Any]) -> CopyRecord:
    return CopyRecord(
        version=tuple(entry["version"]),
        event_id=entry["event_id"],
        position=entry["origin"],
        committed_at=_time(entry["committed_at_us"]),
        synced_at=_time(entry["synced_at_us"]),
    )


def _time(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, UTC)
