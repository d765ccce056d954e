"""Why a copy says what it says: one document against its sources, with where everything came from.

Pure: what the servers know comes in as ``Facts``. They are gathered in this order, so that what is not
yet there is told from what was lost: the flow's watermark, the copy, the sources, then what waits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from syncline.model.change import EntityKey
from syncline.model.version import OpRank
from syncline.monitor.audited_conflicts import AuditedConflict, AuditedReview


class Finding(StrEnum):
    """The plain verdict, the worse the later."""

    EQUAL = "equal"
    BEHIND = "behind"
    """The source is newer, and what holds the change up, or that it is on its way, is known."""
    DIFFERENT = "different"


_WORSE = {finding: rank for rank, finding in enumerate(Finding)}


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """What the copy has on record of one entity. Times are in UTC."""

    version: tuple[int, ...]
    """Generation, row version, rank of the operation, correction."""
    event_id: str
    position: str
    """In the log: ``topic/partition@offset``."""
    committed_at: datetime
    synced_at: datetime
    """When the copy got it."""

    @property
    def row_version(self) -> int:
        return self.version[1]

    @property
    def is_deleted(self) -> bool:
        return self.version[2] == OpRank.DELETE

    @property
    def correction(self) -> int:
        return self.version[3] if len(self.version) > 3 else 0


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it stands in its owner's table."""

    version: int
    committed_at: datetime | None
    """``None`` where it was written again while we looked."""
    commit_time_is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A change that waits for a person, or to be replayed."""

    id: int
    state: str
    """``open`` or ``replaying``."""
    flow: str
    step: str
    error: str
    reason: str
    entity: str | None
    """As the document names it; ``None`` where the message does not even say that."""
    row_version: int | None
    is_delete: bool
    position: str
    first_seen: datetime
    last_seen: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """A change that the store could not take for now."""

    id: int
    state: str
    """``waiting``, ``sent`` or ``escalated``."""
    flow: str
    reason: str
    entity: str | None
    """As the document names it; ``None`` where it is of no writer that the document knows."""
    row_version: int
    is_delete: bool
    position: str
    first_seen: datetime
    turned_back: int
    next_attempt_at: datetime

    @property
    def told(self) -> str:
        """Where it waits, and for what."""
        where = f"waits in retries (entry {self.id}, turned back {self.turned_back} times"
        if self.state == "escalated":
            return f"{where}, escalated): {self.reason}; next: syncline retries show {self.id}"
        if self.state == "sent":
            return f"{where}, on its way again): {self.reason}"
        return f"{where}, next at {self.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC): {self.reason}"


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A change that waits in an outbox."""

    outbox: str
    event_id: str
    aggregate_type: str
    """The last word of the topic that it will go to."""
    entity: str | None
    """As the document names it; ``None`` where only what is inside says so: a replay from ``sync.outbox``."""
    row_version: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class MappedField:
    """A field of the document, and the rule that made it of what its entities say."""

    value: Any
    entities: tuple[str, ...]
    owner: str
    rule: str
    audited_as: str = ""
    """Its name in the audit; empty where entities are decided as a whole."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """By writer, where there are several: its own value."""


@dataclass(frozen=True, slots=True)
class SourceEntity:
    """An entity that contributes, or might."""

    owner: str
    writer: str
    """The service that speaks of it; the owner, where there is no other."""
    table: str
    row: SourceRow | None
    audited_as: str
    """Its name in the audit of conflicts."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the servers know of one document."""

    document: EntityKey
    flow: str
    copy: str
    """Where the copy is kept."""
    is_known: bool
    """Whether the copy has the document."""
    is_hidden: bool | None
    should_be_hidden: bool
    hidden_because: str
    """Why it is not shown, where it is not."""
    document_version: int | None
    records: Mapping[str, CopyRecord]
    """By entity, as the copy has them."""
    entities: Mapping[str, SourceEntity]
    """Every entity that any side knows of."""
    fields: Mapping[str, MappedField]
    """As the copy has them."""
    source_fields: Mapping[str, MappedField]
    """As they would be by the sources."""
    conflicts: Sequence[AuditedConflict]
    reviews: Sequence[AuditedReview]
    quarantine: Sequence[Quarantined]
    retries: Sequence[Retrying]
    unpublished: Sequence[Unpublished]
    fresh_until: datetime | None
    """All that was committed before is in the copy; ``None`` while the flow is not running."""
    looked_at: datetime
    """By the database's clock."""


@dataclass(frozen=True, slots=True)
class EntityExplanation:
    entity: str
    owner: str
    table: str
    finding: Finding
    because: str
    record: CopyRecord | None
    row: SourceRow | None
    conflicts: tuple[str, ...]
    """Names of those below."""
    waiting: tuple[str, ...]
    """What waits for it now, each in words."""


@dataclass(frozen=True, slots=True)
class FieldExplanation:
    field: str
    owner: str
    rule: str
    entities: tuple[str, ...]
    """Those it came from; each is explained below."""
    value: Any
    source_value: Any
    is_in_copy: bool
    is_in_source: bool
    said: Mapping[str, Any]
    """By writer, where there are several: its own value in the copy."""
    conflicts: tuple[str, ...]
    reviews: tuple[str, ...]
    """Names of those below."""
    finding: Finding


@dataclass(frozen=True, slots=True)
class Explanation:
    document: str
    flow: str
    copy: str
    finding: Finding
    because: str
    is_known: bool
    is_hidden: bool | None
    hidden_because: str | None
    document_version: int | None
    fresh_until: datetime | None
    looked_at: datetime
    fields: tuple[FieldExplanation, ...]
    entities: tuple[EntityExplanation, ...]
    conflicts: tuple[AuditedConflict, ...]
    reviews: tuple[AuditedReview, ...]
    quarantine: tuple[Quarantined, ...]
    retries: tuple[Retrying, ...]
    unpublished: tuple[Unpublished, ...]

    def of_field(self, path: str) -> "Explanation":
        """Only what is about this field, or about all below it, as ``prices.EUR``."""
        fields = tuple(
            each for each in self.fields if each.field == path or each.field.startswith(f"{path}.")
        )
        names = {entity for each in fields for entity in each.entities}
        entities = tuple(each for each in self.entities if each.entity in names)
        conflicts = {name for each in fields for name in each.conflicts}
        reviews = {name for each in fields for name in each.reviews}
        return Explanation(
            document=self.document,
            flow=self.flow,
            copy=self.copy,
            finding=worst([each.finding for each in fields]),
            because=_sum_up(fields, entities),
            is_known=self.is_known,
            is_hidden=self.is_hidden,
            hidden_because=self.hidden_because,
            document_version=self.document_version,
            fresh_until=self.fresh_until,
            looked_at=self.looked_at,
            fields=fields,
            entities=entities,
            conflicts=tuple(each for each in self.conflicts if each.name in conflicts),
            reviews=tuple(each for each in self.reviews if each.name in reviews),
            quarantine=tuple(each for each in self.quarantine if each.entity in {None, *names}),
            retries=tuple(each for each in self.retries if each.entity in {None, *names}),
            unpublished=tuple(each for each in self.unpublished if each.entity in {None, *names}),
        )


def worst(findings: Iterable[Finding]) -> Finding:
    return max(findings, key=_WORSE.__getitem__, default=Finding.EQUAL)


def explain(facts: Facts) -> Explanation:
    """Judge each entity, then each field by those it came from, then the whole."""
    entities = tuple(_entity(name, facts) for name in sorted(facts.entities))
    findings = {each.entity: each.finding for each in entities}
    fields = tuple(
        _field(path, mapped, facts, findings)
        for path, mapped in {**facts.source_fields, **facts.fields}.items()
    )
    finding = worst([*findings.values(), *(each.finding for each in fields)])
    because = _sum_up(fields, entities)
    if not facts.is_known:
        because = f"{facts.copy} has never seen it" + (f": {because}" if because else "")
    hidden_is_wrong = facts.is_known and facts.is_hidden is not facts.should_be_hidden
    if finding is Finding.EQUAL and hidden_is_wrong:
        finding = Finding.DIFFERENT
        because = (
            "it is hidden and should be shown" if facts.is_hidden else "it is shown and should be hidden"
        )
    return Explanation(
        document=str(facts.document),
        flow=facts.flow,
        copy=facts.copy,
        finding=finding,
        because=because,
        is_known=facts.is_known,
        is_hidden=facts.is_hidden,
        hidden_because=facts.hidden_because if facts.is_hidden else None,
        document_version=facts.document_version,
        fresh_until=facts.fresh_until,
        looked_at=facts.looked_at,
        fields=fields,
        entities=entities,
        conflicts=tuple(facts.conflicts),
        reviews=tuple(facts.reviews),
        quarantine=tuple(facts.quarantine),
        retries=tuple(facts.retries),
        unpublished=tuple(facts.unpublished),
    )


def _sum_up(fields: Sequence[FieldExplanation], entities: Sequence[EntityExplanation]) -> str:
    """What the worst entities say; where all are equal, the fields that are not."""
    finding = worst([each.finding for each in entities])
    if finding is not Finding.EQUAL:
        return "; ".join(f"{each.entity}: {each.because}" for each in entities if each.finding is finding)
    differing = [each.field for each in fields if each.finding is not Finding.EQUAL]
    return f"{', '.join(differing)}: not what the sources make of it" if differing else ""


def _field(path: str, mapped: MappedField, facts: Facts, findings: Mapping[str, Finding]) -> FieldExplanation:
    here, there = facts.fields.get(path), facts.source_fields.get(path)
    entities = tuple(dict.fromkeys([*(here.entities if here else ()), *(there.entities if there else ())]))
    finding = Finding.EQUAL
    if not _same(here, there):
        finding = worst(findings[entity] for entity in entities)
        if finding is Finding.EQUAL:
            finding = Finding.DIFFERENT
    audited = {facts.entities[entity].audited_as for entity in entities}
    return FieldExplanation(
        field=path,
        owner=mapped.owner,
        rule=mapped.rule,
        entities=entities,
        value=here.value if here else None,
        source_value=there.value if there else None,
        is_in_copy=here is not None,
        is_in_source=there is not None,
        said=mapped.said,
        conflicts=tuple(
            each.name
            for each in facts.conflicts
            if each.entity in audited and each.field == mapped.audited_as
        ),
        reviews=tuple(each.name for each in facts.reviews if each.field == mapped.audited_as),
        finding=finding,
    )


def _entity(name: str, facts: Facts) -> EntityExplanation:
    entity, record = facts.entities[name], facts.records.get(name)
    waiting = [
        f"{_version(each)} waits in quarantine (entry {each.id}, {each.state}): {each.reason}"
        for each in facts.quarantine
        if each.entity == name
    ]
    waiting += [f"{_version(each)} {each.told}" for each in facts.retries if each.entity == name]
    waiting += [
        f"version {each.row_version} waits in {each.outbox}"
        for each in facts.unpublished
        if each.entity == name
    ]
    finding, because = _judge(name, entity.row, record, facts)
    return EntityExplanation(
        entity=name,
        owner=entity.owner,
        table=entity.table,
        finding=finding,
        because=because,
        record=record,
        row=entity.row,
        conflicts=tuple(
            each.name
            for each in facts.conflicts
            if each.entity == entity.audited_as and entity.writer in {each.known.writer, each.arrived.writer}
        ),
        waiting=tuple(waiting),
    )


def _version(waiting: Quarantined | Retrying) -> str:
    if waiting.row_version is None:
        return "a message"
    return f"{'the delete of ' if waiting.is_delete else ''}version {waiting.row_version}"


def _judge(name: str, row: SourceRow | None, record: CopyRecord | None, facts: Facts) -> tuple[Finding, str]:
    if row is None:
        return _judge_without_row(name, record, facts)
    has = "none" if record is None else f"{record.row_version}"
    versions = f"the source has version {row.version}, the copy {has}"
    if record is None or record.row_version < row.version:
        return _not_there(name, row, facts, versions)
    if record.row_version > row.version:
        restored = "was the source restored to an earlier point? Then raise its generation and read it again"
        return Finding.DIFFERENT, f"{versions}: {restored}"
    return _judge_content(name, record, facts)


def _judge_content(name: str, record: CopyRecord, facts: Facts) -> tuple[Finding, str]:
    """Of the same version."""
    version = record.row_version
    if record.is_deleted:
        return Finding.DIFFERENT, f"the copy has version {version} as deleted, the source has the row"
    if not _content_differs(name, facts):
        return Finding.EQUAL, f"both have version {version}"
    if record.correction:
        corrected = f"a person's correction of version {version} stands over the row"
        return Finding.DIFFERENT, f"{corrected}, until the source is corrected too"
    return Finding.DIFFERENT, f"both have version {version}, with other content"


def _judge_without_row(name: str, record: CopyRecord | None, facts: Facts) -> tuple[Finding, str]:
    if record is None:
        return Finding.EQUAL, "neither the source nor the copy has it"
    if record.is_deleted:
        return Finding.EQUAL, "it is deleted at the source and in the copy"
    gone = "the source has no such row any more"
    for each in facts.quarantine:
        if each.entity == name and each.is_delete and (each.row_version or 0) >= record.row_version:
            return Finding.BEHIND, f"{gone}; its delete waits in quarantine (entry {each.id})"
    for retry in facts.retries:
        if retry.entity == name and retry.is_delete and retry.row_version >= record.row_version:
            return Finding.BEHIND, f"{gone}; its delete {retry.told}"
    if any(each.entity == name for each in facts.unpublished):
        return Finding.BEHIND, f"{gone}; its delete is on its way, in the outbox"
    is_running = facts.fresh_until is not None
    why = "if that stays, its delete was lost" if is_running else f"{facts.flow} is not running"
    return Finding.BEHIND, f"{gone}; {why}"


def _not_there(name: str, row: SourceRow, facts: Facts, versions: str) -> tuple[Finding, str]:
    """Where is the row's version?"""
    for each in facts.quarantine:
        if each.entity == name and each.row_version == row.version and not each.is_delete:
            return Finding.BEHIND, f"{versions}; it waits in quarantine (entry {each.id}): {each.reason}"
    for retry in facts.retries:
        if retry.entity == name and retry.row_version == row.version and not retry.is_delete:
            return Finding.BEHIND, f"{versions}; it {retry.told}"
    if any(each.entity == name and each.row_version == row.version for each in facts.unpublished):
        return Finding.BEHIND, f"{versions}; it is on its way, in the outbox"
    if facts.fresh_until is None:
        return Finding.BEHIND, f"{versions}; {facts.flow} is not running"
    if row.committed_at is None or facts.fresh_until <= row.committed_at:
        return Finding.BEHIND, f"{versions}; it is on its way"
    estimated = " (by the row's own time; its commit may be later)" if row.commit_time_is_estimated else ""
    return Finding.DIFFERENT, f"{versions}, although {facts.flow} is past its commit{estimated}"


def _content_differs(name: str, facts: Facts) -> bool:
    """Whether any field that this entity alone makes is not what its row says."""
    return any(
        mapped.entities == (name,) and not _same(facts.fields.get(path), facts.source_fields.get(path))
        for fields in (facts.fields, facts.source_fields)
        for path, mapped in fields.items()
    )


def _same(one: MappedField | None, other: MappedField | None) -> bool:
    return one is not None and other is not None and _canonical(one.value) == _canonical(other.value)


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
