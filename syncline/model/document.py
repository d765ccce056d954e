"""A document and its ``_sync`` block: what the copy itself knows of where its content came from.

``_sync.version`` is a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): it grows with
every write of the document and stays close to the wall clock, in units of 1/65,536 ms. ``_sync.hidden`` keeps
the document out of searches. ``_sync.entities`` holds, for each entity that ever contributed, the version
that the document reflects; a deleted entity leaves its version behind. One that was written again while it
was there also says since when it is (``first_synced_at_us``; else that is ``synced_at_us``). One that changed
a field that listings go by says what stood there before (``formerly``, a few values, the newest first): where
the flow dies between the write and the invalidation, only the document still knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from syncline.model.decision import Conflict, Decision, Known, Review, Verdict
from syncline.model.part import Part
from syncline.model.version import Version

Document = dict[str, Any]
Body = dict[str, Any]
"""What one entity contributes."""

CLOCK_TICKS_PER_MS = 65_536
MOST_REMEMBERED = 4
"""Former values of a field. What the changes themselves say comes again with them; only what stood before the
first of those that come again must be remembered."""


class Detected(NamedTuple):
    """``is_noted``: for later conflicts the document now remembers something that it did not, and is to be
    written even where no part entered."""

    conflicts: Sequence[Conflict]
    is_noted: bool = False


class DocumentShape(Protocol):
    """How the parts of several entities make up one document."""

    @property
    def listed_by(self) -> Sequence[str]:
        """The fields, all of text, that listings of documents go by."""
        ...

    def empty(self, document_id: str) -> Document:
        """The document before any part: its ``_sync`` block is empty and it is hidden."""
        ...

    def put(self, document: Document, part: Part) -> Body | None:
        """Replace what this entity contributes, or take it out where the entity was deleted.

        Returns what it contributed before; ``None`` where that was nothing.
        """
        ...

    def add_up(self, document: Document) -> None:
        """Bring up to date what follows from several parts; called once all parts of a write are in."""
        ...

    def is_hidden(self, document: Document) -> bool:
        """Whether the parts at hand are not yet, or no longer, something to show."""
        ...

    def conflicts(self, document: Document, parts: Iterable[Part]) -> Detected:
        """Of these parts with what other writers wrote; called once the newest of each entity is in.

        ``parts`` are all that came for the document, duplicates and superseded ones too: the first time may
        have died before its conflicts were told. What later conflicts need of them is noted in the document.
        """
        ...

    def reviews(self, document: Document) -> Sequence[Review]:
        """All that a person was ever asked about this document, and how that stands now."""
        ...


def empty_sync_block() -> Document:
    return {"version": 0, "hidden": True, "entities": {}}


def known(document: Document, entity: str) -> Known | None:
    """What the document says of the entity; ``None`` where it never heard of it."""
    entry = document["_sync"]["entities"].get(entity)
    return Known(Version(*entry["version"]), entry["hash"], entry["origin"]) if entry else None


def merge(shape: DocumentShape, document: Document, part: Part, now_us: int) -> Body | None:
    """Put the part into the document, and on record; return what stood in its place."""
    change = part.change
    entities = document["_sync"]["entities"]
    before = entities.get(part.entity)
    record = {
        "version": list(change.version),
        "hash": change.content_hash,
        "event_id": change.event_id,
        "origin": change.message.position,
        "committed_at_us": change.committed_at_us,
        "synced_at_us": now_us,
    }
    entities[part.entity] = record
    replaced = shape.put(document, part)
    if before is None:
        return replaced
    if replaced is not None:
        record["first_synced_at_us"] = first_synced_at_us(before)
    if formerly := _formerly(shape.listed_by, before, replaced or {}, part.body or {}):
        record["formerly"] = formerly
    return replaced


def _formerly(fields: Sequence[str], before: Document, replaced: Body, body: Body) -> dict[str, list[str]]:
    found = {}
    for field in fields:
        values = dict.fromkeys([replaced.get(field), *before.get("formerly", {}).get(field, ())])
        if kept := [value for value in values if value is not None and value != body.get(field)]:
            found[field] = kept[:MOST_REMEMBERED]
    return found


def listed(
    shape: DocumentShape, document: Document, verdicts: Iterable[Verdict]
) -> Mapping[str, Sequence[str]]:
    """By field that listings go by: what the document says, and of changes that came again what it said
    before."""
    entities = document["_sync"]["entities"]
    found = {field: [document[field]] for field in shape.listed_by if document.get(field) is not None}
    if not shape.listed_by:
        return found
    for part, decision, _, _ in verdicts:
        if decision is not Decision.APPLIED:
            for field, values in entities.get(part.entity, {}).get("formerly", {}).items():
                found.setdefault(field, []).extend(values)
    return found


def first_synced_at_us(record: Mapping[str, Any]) -> int:
    """Since when the document has the entity, of its record in ``_sync.entities``."""
    since_us: int = record.get("first_synced_at_us", record["synced_at_us"])
    return since_us


def tick(shape: DocumentShape, document: Document, now_us: int) -> int:
    """After merging: add up, advance the document's clock past everything it has said, and return it."""
    shape.add_up(document)
    sync = document["_sync"]
    version: int = max(now_us * CLOCK_TICKS_PER_MS // 1000, sync["version"] + 1)
    sync["version"] = version
    sync["hidden"] = shape.is_hidden(document)
    return version
