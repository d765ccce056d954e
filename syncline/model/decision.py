"""What conflict resolution said of changes, and the record of a conflict."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.model.version import Version


class Decision(StrEnum):
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


class Known(NamedTuple):
    """What the copy says of one entity."""

    version: Version
    content_hash: str


class Conflict(NamedTuple):
    """Two changes that cannot both stand. ``won`` tells whether the one that arrived does."""

    kind: str
    part: Part
    known: Known
    won: bool
    rule: str


class Stamps(NamedTuple):
    """When a batch passed the parts of the apply step, in microseconds since the epoch."""

    started_at_us: int
    resolved_at_us: int
    validated_at_us: int
    delivered_at_us: int


class Verdict(NamedTuple):
    """What was decided of one change."""

    part: Part
    decision: Decision
    conflict: Conflict | None = None
    replaced: dict[str, Any] | None = None
    """The fields that stood in the part's place, once it was merged."""


class Applied(NamedTuple):
    """Changes of one document that were decided together, and whose decisions are in the copy."""

    document_id: str
    verdicts: list[Verdict]
    document_version: int
    """The document's clock (``_sync.version``) after the decisions."""
    stamps: Stamps


class LaneWatermark(NamedTuple):
    """Every change of the lane that was committed before this time is in the copy."""

    lane: str
    partition: str
    """The log's partition, as ``topic/number``."""
    time_us: int


@dataclass(slots=True)
class Decided:
    """What came of a set of changes. Each is in the copy, or will never be."""

    applied: list[Applied] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    watermarks: list[LaneWatermark] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.applied or self.failures or self.watermarks)

    def add(self, other: "Decided") -> None:
        self.applied += other.applied
        self.conflicts += other.conflicts
        self.failures += other.failures
        self.watermarks += other.watermarks
