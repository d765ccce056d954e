"""The rows of one document in an owner's table: their versions, and when they were committed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier

from syncline.monitor import sql
from syncline.monitor.audited_conflicts import in_utc
from syncline.monitor.explanation import SourceRow
from syncline.postgres import connect, raise_typed
from syncline.statements import statement


class ReadRow(NamedTuple):
    row: SourceRow
    columns: dict[str, Any]


def read_rows(
    dsn: str, table: str, document_column: str, slot_column: str | None, document_id: str
) -> Mapping[str, ReadRow]:
    """By slot (``""`` where there is none)."""
    try:
        with connect(dsn, "syncline-explain") as connection:
            has_commit_times = connection.execute("SHOW track_commit_timestamp").fetchone() == ("on",)
            query = SQL(statement(sql, "row_commits").decode()).format(
                slot=SQL("''") if slot_column is None else Identifier(slot_column),
                commit_time=SQL("pg_xact_commit_timestamp(source.xmin)" if has_commit_times else "NULL"),
                table=Identifier(*table.split(".")),
                document=Identifier(document_column),
            )
            found = connection.execute(query, {"document_id": document_id}).fetchall()
    except psycopg.Error as error:
        raise_typed(error, f"reading {table}")
    return {
        slot: ReadRow(
            SourceRow(
                version, in_utc(committed_at or updated_at), commit_time_is_estimated=committed_at is None
            ),
            columns,
        )
        for slot, version, committed_at, updated_at, columns in found
    }
