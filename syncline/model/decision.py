"""What conflict resolution said of changes, and the record of a conflict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from syncline.model.change import Change, EntityKey
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
    position: str | None = None
    """In the log, of the change that brought it."""


class ConflictKind(StrEnum):
    VERSION = "version"
    """The same version with other content, or an edit based on an older state than the one that stands."""
    TIMESTAMP = "timestamp"
    """Concurrent edits, told by the times of the fields."""
    OWNERSHIP = "ownership"
    """A write by a service that may not write this."""
    BUSINESS_RULE = "business_rule"


class Side(NamedTuple):
    """One of two changes that cannot both stand, as far as it is known."""

    writer: str
    """The service that wrote it."""
    version: tuple[int, ...]
    content_hash: str
    value: Any = None
    """Of the field; of the whole change where no field is named."""
    position: str | None = None
    """In the log; where it is known."""

    @classmethod
    def of_change(cls, change: Change) -> Self:
        """A change as a whole."""
        return cls(
            change.producer,
            tuple(change.version),
            change.content_hash,
            change.fields,
            change.message.position,
        )

    @classmethod
    def of_known(cls, writer: str, known: Known) -> Self:
        """What the copy says, which does not hold the value."""
        return cls(writer, tuple(known.version), known.content_hash, position=known.position)

    @classmethod
    def unseen(cls, writer: str) -> Self:
        """A writer of whom the copy has nothing."""
        return cls(writer, (), "")


class Conflict(NamedTuple):
    """Two changes that cannot both stand, over one field or (``""``) over an entity as a whole.

    ``won`` tells whether the one that arrived does; ``rule`` names what decided.
    """

    kind: ConflictKind
    entity: EntityKey
    field: str
    known: Side
    arrived: Side
    event_id: str
    """Of the change that arrived."""
    won: bool
    rule: str


class Candidate(NamedTuple):
    """A writer's newest value of a field that is under review."""

    value: Any
    version: int
    at_us: int


class Review(NamedTuple):
    """A question that a person must answer: which of several concurrent values of a field is right?

    It is a function of what the document knows, so every write of the document tells it anew.
    """

    entity: EntityKey
    field: str
    candidates: dict[str, Candidate]
    """By writer."""
    standing: str
    """The writer whose value the copy shows meanwhile."""
    is_open: bool
    document_version: int
    """The document's clock: of two reviews of one field the one with the higher clock is newer."""


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
    listed: Mapping[str, Sequence[Any]] = MappingProxyType({})
    """By field that listings go by: what the document says, and of changes that came again what it said
    before."""


class LaneWatermark(NamedTuple):
    """Every change of the lane that was committed before this time is in the copy."""

    lane: str
    partition: str
    """The log's partition, as ``topic/number``."""
    time_us: int


@dataclass(slots=True)
class Decided:
    """What came of a set of changes. Each is in the copy, or will never be, or is postponed."""

    applied: list[Applied] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    postponed: list[Failure] = field(default_factory=list)
    """The store takes others, and not these for now."""
    watermarks: list[LaneWatermark] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.applied or self.failures or self.postponed or self.watermarks)

    def add(self, other: "Decided") -> None:
        self.applied += other.applied
        self.conflicts += other.conflicts
        self.reviews += other.reviews
        self.failures += other.failures
        self.postponed += other.postponed
        self.watermarks += other.watermarks
