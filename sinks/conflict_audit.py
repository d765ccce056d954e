"""One row for each conflict, in ``sync.conflicts``: what was known, what came, which rule decided."""

from typing import Any

from sinks.postgres import PostgresSink, PostgresWriter
from syncline.circuit import Circuit
from syncline.model.decision import Conflict


def conflict_audit(flow: str, dsn: str, circuit: Circuit) -> PostgresSink[Conflict]:
    """A sink for conflicts of the flow."""

    def row(conflict: Conflict) -> dict[str, Any]:
        known, arrived = conflict.known, conflict.arrived
        return {
            "flow": flow,
            "kind": conflict.kind,
            "entity_type": conflict.entity.type,
            "entity_id": conflict.entity.id,
            "field": conflict.field,
            "known_writer": known.writer,
            "known_version": known.version,
            "known_hash": known.content_hash,
            "known_value": known.value,
            "known_position": known.position,
            "arrived_writer": arrived.writer,
            "arrived_version": arrived.version,
            "arrived_hash": arrived.content_hash,
            "arrived_value": arrived.value,
            "arrived_position": arrived.position,
            "arrived_event_id": conflict.event_id,
            "rule": conflict.rule,
            "winner": "arrived" if conflict.won else "known",
        }

    return PostgresSink(PostgresWriter(dsn, "conflicts", f"syncline-{flow}-audit"), row, circuit)
