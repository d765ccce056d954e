"""Conflicts and reviews as the audit keeps them: what met, which rule decided, what a person said of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from syncline.model.change import EntityKey
from syncline.model.decision import ConflictKind
from syncline.monitor import sql
from syncline.postgres import Connection, raise_typed
from syncline.statements import statement

READING = "reading conflicts and reviews"


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """The flow could not take it: it lies in quarantine, and may be given anew."""

    quarantine_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person decided; times are in UTC."""

    by: str
    why: str
    at: datetime
    how: dict[str, Any]
    failed: FailedAnswer | None = None


@dataclass(frozen=True, slots=True)
class AuditedSide:
    writer: str
    version: tuple[int, ...]
    content_hash: str
    value: Any
    """``None`` also where it was not kept."""
    position: str | None


@dataclass(frozen=True, slots=True)
class AuditedConflict:
    """One row of ``sync.conflicts``."""

    id: int
    flow: str
    kind: ConflictKind
    entity_type: str
    entity_id: str
    field: str
    """Empty: the entity as a whole."""
    known: AuditedSide
    arrived: AuditedSide
    arrived_event_id: str
    rule: str
    winner: str
    """``known`` or ``arrived``."""
    decided_at: datetime
    resolution: Resolution | None

    @property
    def is_resolved(self) -> bool:
        """By a person, whose answer did not fail."""
        return self.resolution is not None and self.resolution.failed is None

    @property
    def name(self) -> str:
        """As the command line calls it."""
        return f"c{self.id}"

    @property
    def entity(self) -> str:
        return f"{self.entity_type}:{self.entity_id}"


@dataclass(frozen=True, slots=True)
class AuditedCandidate:
    """A writer's newest value of a field under review."""

    value: Any
    version: int
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditedReview:
    """One row of ``sync.reviews``."""

    id: int
    flow: str
    entity_type: str
    entity_id: str
    field: str
    state: str
    """``open``, ``closed``, or ``resolving``: a resolution covers all candidates and is on its way. One that
    failed leaves it ``open``."""
    candidates: dict[str, AuditedCandidate]
    """By writer."""
    standing: str
    """The writer whose value the copy shows meanwhile."""
    opened_at: datetime
    told_at: datetime
    resolution: Resolution | None

    @property
    def name(self) -> str:
        """As the command line calls it."""
        return f"r{self.id}"

    @property
    def entity(self) -> str:
        return f"{self.entity_type}:{self.entity_id}"


@dataclass(frozen=True, slots=True)
class Search:
    """What is ``None`` does not narrow it."""

    id: int | None = None
    flow: str | None = None
    kind: ConflictKind | None = None
    entities: Sequence[EntityKey] | None = None
    open: bool = False
    """Only what still waits for a person, or may be decided otherwise by one."""
    limit: int | None = None

    def parameters(self) -> dict[str, Any]:
        entities = self.entities
        return {
            "id": self.id,
            "flow": self.flow,
            "kind": self.kind,
            "types": None if entities is None else sorted({entity.type for entity in entities}),
            "ids": None if entities is None else sorted({entity.id for entity in entities}),
            "open": self.open,
            "limit": self.limit,
        }

    def has(self, entity_type: str, entity_id: str) -> bool:
        """The statement asks for types and ids apart, each by an index; here they are looked at together."""
        return self.entities is None or EntityKey(entity_type, entity_id) in self.entities


def read_conflicts(connection: Connection, search: Search) -> list[AuditedConflict]:
    """The newest first."""
    conflicts = map(_conflict, _rows(connection, "audited_conflicts", search))
    return [conflict for conflict in conflicts if search.has(conflict.entity_type, conflict.entity_id)]


def read_reviews(connection: Connection, search: Search) -> list[AuditedReview]:
    """Those that are open first, then the newest."""
    reviews = map(_review, _rows(connection, "audited_reviews", search))
    return [review for review in reviews if search.has(review.entity_type, review.entity_id)]


def _rows(connection: Connection, name: str, search: Search) -> Iterable[tuple[Any, ...]]:
    try:
        return connection.execute(statement(sql, name), search.parameters()).fetchall()
    except psycopg.Error as error:
        raise_typed(error, READING)


def _conflict(row: Sequence[Any]) -> AuditedConflict:
    id_, flow, kind, entity_type, entity_id, field, *rest = row
    known, arrived, (event_id, rule, winner, decided_at, *resolved) = rest[:5], rest[5:10], rest[10:]
    return AuditedConflict(
        id=id_,
        flow=flow,
        kind=ConflictKind(kind),
        entity_type=entity_type,
        entity_id=entity_id,
        field=field,
        known=_side(known),
        arrived=_side(arrived),
        arrived_event_id=event_id,
        rule=rule,
        winner=winner,
        decided_at=in_utc(decided_at),
        resolution=_resolution(resolved),
    )


def _side(columns: Sequence[Any]) -> AuditedSide:
    writer, version, content_hash, value, position = columns
    return AuditedSide(writer, tuple(version), content_hash, value, position)


def _review(row: Sequence[Any]) -> AuditedReview:
    id_, flow, entity_type, entity_id, field, state, plain, standing, opened_at, told_at, *resolved = row
    candidates = {writer: _candidate(candidate) for writer, candidate in plain.items()}
    resolution = _resolution(resolved)
    if (
        state == "open"
        and resolution is not None
        and resolution.failed is None
        and _covers_all(resolution.how, candidates)
    ):
        state = "resolving"
    return AuditedReview(
        id=id_,
        flow=flow,
        entity_type=entity_type,
        entity_id=entity_id,
        field=field,
        state=state,
        candidates=candidates,
        standing=standing,
        opened_at=in_utc(opened_at),
        told_at=in_utc(told_at),
        resolution=resolution,
    )


def _candidate(plain: Mapping[str, Any]) -> AuditedCandidate:
    at = datetime.fromtimestamp(plain["at_us"] / 1e6, UTC)
    return AuditedCandidate(plain["value"], plain["version"], at)


def _covers_all(how: Mapping[str, Any], candidates: Mapping[str, AuditedCandidate]) -> bool:
    covers: Mapping[str, int] = how["covers"]
    return all(covers.get(writer, 0) >= candidate.version for writer, candidate in candidates.items())


def _resolution(columns: Sequence[Any]) -> Resolution | None:
    resolved_at, resolved_by, why, how, failed_as, failed_for = columns
    if resolved_at is None:
        return None
    failed = None if failed_as is None else FailedAnswer(failed_as, failed_for)
    return Resolution(resolved_by, why, in_utc(resolved_at), how, failed)


def in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)
