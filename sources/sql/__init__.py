"""The SQL of this package, for the outbox of one schema."""

from importlib import resources

from psycopg import sql

from sources import sql as folder


def statement(name: str, **parts: sql.Composable) -> bytes:
    """The SQL of ``sql/NAME.sql``, with the names of a schema filled in."""
    text = (resources.files(folder) / f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(text).format(**parts).as_bytes(None)
