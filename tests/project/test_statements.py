"""SQL in files: each statement is found in the package that it lies in, by its name."""

from types import ModuleType

import pytest

import sinks.sql
import syncline.monitor.sql
import syncline.services.sql
from syncline.statements import named_statements, statement


@pytest.mark.parametrize(
    ("package", "name", "begins"),
    [
        (sinks.sql, "conflicts", b"INSERT INTO sync.conflicts"),
        (syncline.monitor.sql, "quarantine_count", b"SELECT"),
        (syncline.services.sql, "notify_off", b"ALTER TABLE outbox"),
    ],
)
def test_a_statement_comes_from_its_own_package(package: ModuleType, name: str, begins: bytes) -> None:
    lines = [line for line in statement(package, name).splitlines() if not line.startswith(b"--")]
    assert lines[0].startswith(begins)


def test_several_statements_of_a_file_are_told_apart_by_name() -> None:
    found = named_statements(syncline.services.sql, "shop")
    assert found["delete_product"].startswith(b"DELETE FROM catalog.products\nWHERE")
    assert not any(b"-- name:" in text for text in found.values())
