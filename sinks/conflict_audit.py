"""One row for each conflict, in ``sync.conflicts``: what was known, what came, which rule decided."""

from typing import Any

from sinks.postgres import PostgresSink, PostgresWriter
from syncline.model.decision import Conflict
from syncline.stopping import Stop


def conflict_audit(flow: str, dsn: str, stop: Stop) -> PostgresSink[Conflict]:
    """A sink for conflicts of the flow."""

    def row(conflict: Conflict) -> dict[str, Any]:
        change = conflict.part.change
        return {
            "flow": flow,
            "kind": conflict.kind,
            "entity_type": change.entity.type,
            "entity_id": change.entity.id,
            "known_version": list(conflict.known.version),
            "known_hash": conflict.known.content_hash,
            "arrived_version": list(change.version),
            "arrived_hash": change.content_hash,
            "arrived_event_id": change.event_id,
            "arrived_fields": change.fields,
            "arrived_position": change.message.position,
            "rule": conflict.rule,
            "winner": "arrived" if conflict.won else "known",
        }

    return PostgresSink(PostgresWriter(dsn, "conflicts", f"syncline-{flow}-audit"), row, stop)
