"""What conflict resolution said of a change, and the record of a conflict."""

from enum import StrEnum
from typing import Any, NamedTuple

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


class Applied(NamedTuple):
    """A change that was decided and whose decision is in the copy."""

    part: Part
    decision: Decision
    document_version: int
    """The document's clock (``_sync.version``) after the decision."""
    stamps: Stamps
    replaced: dict[str, Any] | None
    """The fields that stood in the part's place."""


class LaneWatermark(NamedTuple):
    """Every change of the lane that was committed before this time is in the copy."""

    lane: str
    partition: str
    """The log's partition, as ``topic/number``."""
    time_us: int
