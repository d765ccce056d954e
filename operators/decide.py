"""Steps 5 to 7 for a set of parts: load the documents, resolve, validate, merge, write, and only then tell.

Nothing is remembered that was not written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from operators.calls import Work
from operators.deliver import Deliver
from operators.resolve import Resolve
from operators.validate import Validate, contradiction
from syncline.clock import Clock
from syncline.model.decision import Applied, Conflict, Decided, Decision, Review, Stamps, Verdict
from syncline.model.document import Document, DocumentShape, known, listed, merge, tick
from syncline.model.errors import Contradictory, Postponed, Refused, TransientError
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.model.store import Outcome, StoredDocument, Write
from syncline.policies.rules import Rule

APPLIED = Decision.APPLIED
"""The class looks a member up at each mention, several times a change."""

_AT_A_TIME = 16

Result = tuple[Decided, list[Part]]
"""What came of parts, and those left undecided by a stop."""


class Decide:
    """Brings parts into the copy."""

    def __init__(
        self, shape: DocumentShape, rules: Mapping[str, Sequence[Rule]], deliver: Deliver, clock: Clock
    ) -> None:
        self.shape = shape
        self.deliver = deliver
        self.clock = clock
        self.resolve = Resolve()
        self.validate = Validate(rules)

    def __call__(self, parts: Iterable[Part]) -> Work[Result]:
        """Decide all parts, whatever it takes but a stop."""
        deciding = _Deciding(self, parts)
        try:
            while deciding.parts:
                yield from deciding.round()
        except TransientError:
            # Only a stop gets here: until then the place is held.
            pass
        return deciding.decided, [part for parts in deciding.parts.values() for part in parts]


class _Merged(NamedTuple):
    verdicts: list[Verdict]
    document_version: int
    conflicts: Sequence[Conflict]
    reviews: Sequence[Review]
    listed: Mapping[str, Sequence[str]]


@dataclass(slots=True)
class _Merging:
    """What merging came to, before any of it was written."""

    writes: list[Write] = field(default_factory=list)
    merged: dict[str, "_Merged"] = field(default_factory=dict)
    """By document: what is settled if the store takes its write."""
    resolving_us: int = 0
    validating_us: int = 0


class _Deciding:
    """The parts that are still to be decided, by document, and what came of the others."""

    def __init__(self, by: Decide, parts: Iterable[Part]) -> None:
        self._by = by
        self.parts: dict[str, list[Part]] = {}
        for part in parts:
            self.parts.setdefault(part.document_id, []).append(part)
        self.decided = Decided()
        self._must_read: set[str] = set()
        self._one_by_one: set[str] = set()
        """The store refused these as a whole: let one entity in at a time, to find the one at fault."""

    def round(self) -> Work[None]:
        """Try to decide everything once; what is turned away stays for the next round."""
        clock = self._by.clock
        started = clock()
        copies = yield from self._by.deliver.load({id_: self._may_be_new(id_) for id_ in self.parts})
        loaded = clock()
        merging = _Merging()
        # A few documents at a time: the parsed ones then stay in the processor's cache until they are done.
        ids = list(self.parts)
        for start in range(0, len(ids), _AT_A_TIME):
            self._merge({id_: copies[id_] for id_ in ids[start : start + _AT_A_TIME]}, merging)
        results = yield from self._by.deliver.write(merging.writes)
        resolved = loaded + merging.resolving_us
        stamps = Stamps(started, resolved, resolved + merging.validating_us, clock())
        for id_, merged in merging.merged.items():
            result = results.get(id_)
            if result is None or result.outcome is Outcome.WRITTEN:
                self._tell(id_, merged, stamps)
            elif result.outcome is Outcome.ALREADY_NEWER:
                self._must_read.add(id_)
            elif result.outcome is Outcome.REFUSED:
                self._take_out_refused(id_, merged.verdicts, result.reason)
            else:
                self._postpone(id_, result.reason)
        self.parts = {id_: parts for id_, parts in self.parts.items() if parts}

    def _may_be_new(self, document_id: str) -> bool:
        parts = self.parts[document_id]
        return document_id not in self._must_read and any(part.change.is_first for part in parts)

    def _merge(self, copies: Mapping[str, StoredDocument | None], merging: "_Merging") -> None:
        """Resolve, validate and merge the parts of some documents."""
        clock, resolve, shape = self._by.clock, self._by.resolve, self._by.shape
        begun = clock()
        documents: dict[str, Document] = {
            id_: shape.empty(id_) if copy is None else copy.document for id_, copy in copies.items()
        }
        judged = {id_: resolve.against_copy(document, self.parts[id_]) for id_, document in documents.items()}
        resolved = clock()
        for id_ in judged:
            self._take_out_invalid(id_, documents[id_], judged)
        validated = clock()
        merging.resolving_us += resolved - begun
        merging.validating_us += validated - resolved
        for id_, copy in copies.items():
            document, verdicts = documents[id_], judged[id_]
            entering = [verdict for verdict in verdicts if verdict.decision is APPLIED]
            if entering:
                verdicts = self._enter(id_, document, entering, verdicts, validated)
            conflicts, is_noted = shape.conflicts(document, (verdict.part for verdict in verdicts))
            if is_noted and not entering:
                tick(shape, document, validated)
            if entering or is_noted:
                token = None if copy is None else copy.token
                try:
                    merging.writes.append(Write(id_, orjson.dumps(document), token))
                except orjson.JSONEncodeError as error:
                    # Nested deeper, or a larger number, than JSON is written with.
                    self._take_out_refused(id_, verdicts, f"the document is no JSON: {error}")
                    continue
            merging.merged[id_] = _Merged(
                verdicts,
                document["_sync"]["version"],
                conflicts,
                shape.reviews(document),
                listed(shape, document, verdicts),
            )

    def _take_out_invalid(
        self, document_id: str, document: Document, judged: dict[str, list[Verdict]]
    ) -> None:
        invalid: list[Part] = []
        for verdict in judged[document_id]:
            part = verdict.part
            if verdict.decision is APPLIED and (error := self._by.validate(part)) is not None:
                invalid.append(part)
                self.decided.failures.append(Failure("apply", part.change.message, error, part.change))
                if isinstance(error, Contradictory):
                    self.decided.conflicts.append(
                        contradiction(part, known(document, part.entity), str(error))
                    )
        if invalid:
            rejected = {id(part) for part in invalid}
            judged[document_id] = [
                verdict for verdict in judged[document_id] if id(verdict.part) not in rejected
            ]
            self._drop(document_id, invalid)

    def _enter(
        self,
        document_id: str,
        document: Document,
        entering: list[Verdict],
        verdicts: list[Verdict],
        now_us: int,
    ) -> list[Verdict]:
        """Bring what may enter into the document; answer all that is settled once that is written."""
        settled: list[Verdict] = []
        if len(entering) < len(verdicts):
            settled = [verdict for verdict in verdicts if verdict.decision is not APPLIED]
        if document_id in self._one_by_one:
            entity = entering[0].part.entity
            entering = [verdict for verdict in entering if verdict.part.entity == entity]
        for verdict in self._by.resolve.among(entering):
            part, decision, conflict, _ = verdict
            replaced = None
            if decision is APPLIED:
                replaced = merge(self._by.shape, document, part, now_us)
            settled.append(verdict if replaced is None else Verdict(part, decision, conflict, replaced))
        tick(self._by.shape, document, now_us)
        return settled

    def _tell(self, document_id: str, merged: _Merged, stamps: Stamps) -> None:
        verdicts, document_version, conflicts, reviews, listed_under = merged
        if verdicts:
            self.decided.applied.append(
                Applied(document_id, verdicts, document_version, stamps, listed_under)
            )
        for verdict in verdicts:
            if verdict.conflict is not None:
                self.decided.conflicts.append(verdict.conflict)
        self.decided.conflicts += conflicts
        self.decided.reviews += reviews
        parts = self.parts[document_id]
        if len(verdicts) == len(parts):
            parts.clear()
        else:
            self._drop(document_id, [verdict.part for verdict in verdicts])

    def _take_out_refused(self, document_id: str, verdicts: list[Verdict], reason: str) -> None:
        """Blame a part only when it alone was new; what it stood above gets its turn in the next round.

        Where none entered, what was noted of them is at fault."""
        entered = [verdict.part for verdict in verdicts if verdict.decision is APPLIED]
        if not entered:
            self._blame([verdict.part for verdict in verdicts], document_id, reason)
            return
        if len(entered) > 1:
            self._one_by_one.add(document_id)
            return
        self._blame(entered, document_id, reason)

    def _postpone(self, document_id: str, reason: str) -> None:
        """All that the document was to have of these parts waits, also what only would have been noted."""
        error = Postponed(reason)
        self.decided.postponed.extend(
            Failure("apply", part.change.message, error, part.change) for part in self.parts[document_id]
        )
        self.parts[document_id] = []

    def _blame(self, parts: list[Part], document_id: str, reason: str) -> None:
        self.decided.failures.extend(
            Failure("apply", part.change.message, Refused(reason), part.change) for part in parts
        )
        self._drop(document_id, parts)

    def _drop(self, document_id: str, parts: Iterable[Part]) -> None:
        dropped = {id(part) for part in parts}
        self.parts[document_id] = [part for part in self.parts[document_id] if id(part) not in dropped]
