"""The SQL of this package."""

from importlib import resources

from syncline.monitor import sql


def statement(name: str) -> bytes:
    """The SQL of ``sql/NAME.sql``."""
    return (resources.files(sql) / f"{name}.sql").read_bytes()
