"""What waits for one document now: in quarantine, in retries, and in the outboxes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from syncline.model.version import OpRank
from syncline.monitor import sql
from syncline.monitor.audited_conflicts import in_utc
from syncline.monitor.explanation import Quarantined, Retrying, Unpublished
from syncline.monitor.open_quarantine import claim
from syncline.postgres import Connection, connect, raise_typed
from syncline.statements import statement


def read_quarantined(connection: Connection, key: str, flows: Sequence[str]) -> list[Quarantined]:
    """What waits in quarantine under a message key, the oldest first."""
    parameters = {"key": key.encode(), "flows": list(flows)}
    try:
        found = connection.execute(statement(sql, "quarantine_of_key"), parameters).fetchall()
    except psycopg.Error as error:
        raise_typed(error, "reading sync.quarantine")
    return list(map(_quarantined, found))


def _quarantined(row: Sequence[Any]) -> Quarantined:
    id_, state, flow, step, error, reason, entity, version, *rest = row
    position, first_seen, last_seen, count, undecoded = rest
    row_version, op_rank = (version[1], version[2]) if version else (None, OpRank.UPSERT)
    if undecoded is not None and (claimed := claim(undecoded)) is not None:
        entity, row_version, op_rank = claimed
    return Quarantined(
        id=id_,
        state=state,
        flow=flow,
        step=step,
        error=error,
        reason=reason,
        entity=entity,
        row_version=row_version,
        is_delete=op_rank == OpRank.DELETE,
        position=position,
        first_seen=in_utc(first_seen),
        last_seen=in_utc(last_seen),
        count=count,
    )


def read_retrying(connection: Connection, key: str, flow: str) -> list[Retrying]:
    """What waits in retries under a message key, the oldest first."""
    parameters = {"key": key.encode(), "flow": flow}
    try:
        found = connection.execute(statement(sql, "retries_of_key"), parameters).fetchall()
    except psycopg.Error as error:
        raise_typed(error, "reading sync.retries")
    return list(map(_retrying, found))


def _retrying(row: Sequence[Any]) -> Retrying:
    id_, state, flow, reason, entity, version, position, first_seen, turned_back, next_attempt_at = row
    return Retrying(
        id=id_,
        state=state,
        flow=flow,
        reason=reason,
        entity=entity,
        row_version=version[1],
        is_delete=version[2] == OpRank.DELETE,
        position=position,
        first_seen=in_utc(first_seen),
        turned_back=turned_back,
        next_attempt_at=in_utc(next_attempt_at),
    )


def read_unpublished(dsns: Mapping[str, str], key: str) -> Iterator[Unpublished]:
    """What waits in these outboxes, by schema, under a routing key."""
    for schema, dsn in dsns.items():
        query = SQL(statement(sql, "outbox_of_key").decode()).format(outbox=Identifier(schema, "outbox"))
        try:
            with connect(dsn, "syncline-explain") as connection:
                found = connection.execute(query, {"key": key}).fetchall()
        except psycopg.Error as error:
            raise_typed(error, f"reading {schema}.outbox")
        for event_id, aggregate_type, entity, version, occurred_at in found:
            yield Unpublished(
                f"{schema}.outbox", event_id, aggregate_type, entity, version, in_utc(occurred_at)
            )
