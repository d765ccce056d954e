"""What a document remembers of the values that its writers gave its fields, so that later ones can be held
against them: a value may be replaced before the one that it was concurrent with arrives.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from syncline.policies.field_merge import FieldVersion

REMEMBERED = 32
"""How many values of one field the document remembers of each writer. A flow that starts on a backlog
may read hours of one writer's changes before any of another's; few values change more often in that time."""

Kept = dict[str, dict[str, list[dict[str, Any]]]]
"""By field and writer, as it stands in the document: the lowest version first."""


class Remembered(NamedTuple):
    made: FieldVersion
    """As the first change said that brought it."""
    brought_by: int
    """The row version of that change; later ones only restate it."""


class FieldHistory:
    """Reads and writes the memory of one document, in place."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def remember(self, field: str, made: FieldVersion, row_version: int) -> bool:
        """Of a writer's values those of the highest versions are kept; answers whether this is one more."""
        values = self._kept.setdefault(field, {}).setdefault(made.writer, [])
        if _find(values, made) is not None:
            return False
        values.append(
            {
                "version": made.version,
                "at_us": made.at_us,
                "value": made.value,
                "based_on": dict(made.based_on),
                "hash": made.content_hash,
                "brought_by": row_version,
            }
        )
        values.sort(key=lambda entry: (entry["version"], entry["hash"]))
        del values[:-REMEMBERED]
        return _find(values, made) is not None

    def first_seen(self, field: str, made: FieldVersion) -> Remembered | None:
        """The same value, as it was first seen; ``None`` where it is not remembered."""
        entry = _find(self._kept.get(field, {}).get(made.writer, []), made)
        return None if entry is None else Remembered(_made(made.writer, entry), entry["brought_by"])

    def of_others(self, field: str, writer: str) -> Iterator[FieldVersion]:
        """All that is remembered of the other writers."""
        for other, values in self._kept.get(field, {}).items():
            if other != writer:
                for entry in values:
                    yield _made(other, entry)


def _find(values: list[dict[str, Any]], made: FieldVersion) -> dict[str, Any] | None:
    same = (made.version, made.content_hash)
    return next((entry for entry in values if (entry["version"], entry["hash"]) == same), None)


def _made(writer: str, entry: dict[str, Any]) -> FieldVersion:
    return FieldVersion(
        writer, entry["version"], entry["at_us"], entry["value"], entry["based_on"], entry["hash"]
    )
