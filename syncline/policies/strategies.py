"""How the values of several writers come together, field by field: what the business decides."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Strategy(StrEnum):
    LAST_WRITE_WINS = "last_write_wins"
    """The value of the highest version stands."""
    MERGE = "merge"
    """A named rule chooses."""
    MANUAL = "manual"
    """A person chooses among concurrent values; until then that of the highest-ranked writer stands."""


class MergeRule(StrEnum):
    LATEST_CONSENT = "latest_consent"
    """The latest consent stands, and of two at the same time the withdrawal."""


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """``columns`` are those of the row that change together and share the field's version. ``writers`` may
    write the field, the highest rank first. ``rule`` is there exactly where the strategy is ``merge``."""

    name: str
    columns: tuple[str, ...]
    writers: tuple[str, ...]
    strategy: Strategy
    rule: MergeRule | None


@dataclass(frozen=True, slots=True)
class ConflictPolicy:
    """Of an entity with several writers. Values that two of them made within ``concurrency_window`` of each
    other are concurrent, where neither says that it had seen the other's."""

    fields: tuple[FieldPolicy, ...]
    concurrency_window: timedelta
