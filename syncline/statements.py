"""SQL in files of its own, read from the package that they lie in."""

import re
from importlib import resources
from types import ModuleType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def statement(package: ModuleType, name: str) -> bytes:
    """The SQL of ``NAME.sql``."""
    return (resources.files(package) / f"{name}.sql").read_bytes()


def named_statements(package: ModuleType, name: str) -> dict[str, bytes]:
    """The statements of ``NAME.sql``, each by the name above it: ``-- name: put_product``."""
    _, *named = _NAME.split(statement(package, name).decode())
    return {name: text.strip().encode() for name, text in zip(named[::2], named[1::2], strict=True)}
