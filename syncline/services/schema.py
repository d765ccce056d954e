"""The producing services' tables, outboxes, triggers and roles, as SQL to run or to print.

The statements live in ``sql/``, one subject a file; this module puts them in order. A run is one
transaction and may be repeated: what exists stays, functions and triggers are brought up to date.
"""

from collections.abc import Iterable, Mapping

import psycopg

from syncline.model.errors import BadCredentials, Misconfigured
from syncline.policies.ownership import entities_of
from syncline.policies.policy_file import PolicyFile
from syncline.postgres import connect
from syncline.services import sql
from syncline.statements import statement

SCHEMAS = ("catalog", "pricing", "warehouse", "customers")
"""The services, each with a schema, a role and an outbox of its own. Three more roles write the customers."""


def installation(schemas: Iterable[str] = SCHEMAS, *, notify: bool = True) -> str:
    """The SQL that installs these services in one database; ``psql`` runs it as it is.

    ``notify`` wakes the relay at each commit. Without it commits take no lock of the whole database, and
    prepared transactions are possible; the relay then goes by its poll.
    """
    parts = ["BEGIN;", "SET LOCAL client_min_messages = warning;", _sql("roles")]
    for schema in schemas:
        if schema not in SCHEMAS:
            raise Misconfigured(f"No service is called {schema!r}; there are {', '.join(SCHEMAS)}.")
        parts += [
            f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {schema};",
            f"SET LOCAL ROLE {schema};",
            f"SET LOCAL search_path = {schema}, pg_temp;",
            _sql("outbox"),
            _sql(schema),
            # After the tables: writers lock a table and then the outbox, and so must this.
            _sql("notify"),
            *([] if notify else [_sql("notify_off")]),
            "RESET ROLE;",
        ]
    parts.append("COMMIT;")
    return "\n\n".join(parts) + "\n"


def installation_of(file: PolicyFile) -> str:
    """The SQL that gives tables of anybody's an outbox in their schema, and triggers, as a policy says."""
    parts = [
        "BEGIN;",
        "SET LOCAL client_min_messages = warning;",
        f"SET LOCAL search_path = {file.owner}, pg_temp;",
        _sql("outbox"),
    ]
    key = ",".join(filter(None, (file.source.slot, file.source.document)))
    for entity in entities_of(file):
        table = file.source.table.replace("{writer}", entity.writer or "")
        attach = (
            f"'{table}', '{file.entity}', '{file.source.document}', '{{{key}}}', '{entity.aggregate_type}'"
        )
        parts += [
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 0;",
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now();",
            f"CALL outbox_attach({attach});",
        ]
    return "\n\n".join([*parts, _sql("notify"), "COMMIT;"]) + "\n"


def install(dsn: str, schemas: Iterable[str] = SCHEMAS, *, notify: bool = True) -> None:
    """Install these services in the database at ``dsn``, or bring them up to date."""
    with connect(dsn) as connection:
        try:
            connection.execute(installation(schemas, notify=notify).encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise BadCredentials(
                f"{error.diag.message_primary}. To install the services takes a superuser, or a role that "
                "may create roles and, in this database, schemas."
            ) from error


def install_all(dsns: Mapping[str, str], *, notify: bool = True) -> None:
    """Install each service in its own source database (``Settings().source_dsns``)."""
    for dsn in dict.fromkeys(dsns.values()):
        install(dsn, [schema for schema in dsns if dsns[schema] == dsn], notify=notify)


def _sql(name: str) -> str:
    return statement(sql, name).decode().strip()
