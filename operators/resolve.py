"""Step 5: what stands when two changes meet. Last write wins, by version and never by arrival."""

from collections.abc import Iterable, Sequence

from syncline.model.decision import Conflict, ConflictKind, Decision, Known, Side, Verdict
from syncline.model.document import Document, known
from syncline.model.part import Part

APPLIED = Decision.APPLIED
"""The class looks a member up at each mention, several times a change."""


class Resolve:
    """Judges parts against the copy, and against each other.

    The order is total (version, then content hash), so the result does not depend on arrival.
    """

    def judge(self, part: Part, standing: Known | None) -> Verdict:
        if standing is None or part.change.version > standing.version:
            return Verdict(part, APPLIED)
        if part.change.version < standing.version:
            return Verdict(part, Decision.SUPERSEDED)
        if part.change.content_hash == standing.content_hash:
            return Verdict(part, Decision.DUPLICATE)
        won = part.change.content_hash > standing.content_hash
        conflict = _same_version(part, standing, won)
        return Verdict(part, APPLIED if won else Decision.REJECTED, conflict)

    def against_copy(self, document: Document, parts: Iterable[Part]) -> list[Verdict]:
        """``APPLIED`` here means that the part may enter: the copy knows nothing that stands above it."""
        return [self.judge(part, known(document, part.entity)) for part in parts]

    def among(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Of those that may enter, let the newest of each entity enter; the others yield to it."""
        if len(verdicts) == len({verdict.part.entity for verdict in verdicts}):
            return list(verdicts)
        settled: list[Verdict] = []
        standing: dict[str, Known] = {}
        above: dict[str, Known] = {}
        for verdict in sorted(verdicts, key=lambda verdict: verdict.part.rank, reverse=True):
            part, change = verdict.part, verdict.part.change
            winner = standing.get(part.entity)
            if winner is None:
                settled.append(verdict)
            else:
                # That neither stands in the end makes it no less of a conflict, with the copy or each other.
                told = self.judge(part, above[part.entity]).conflict or verdict.conflict
                settled.append(self.judge(part, winner)._replace(conflict=told))
            above[part.entity] = Known(part.version, change.content_hash, change.message.position)
            standing.setdefault(part.entity, above[part.entity])
        return settled


def _same_version(part: Part, standing: Known, won: bool) -> Conflict:
    change = part.change
    return Conflict(
        ConflictKind.VERSION,
        change.entity,
        field="",
        known=Side.of_known(change.producer, standing),
        arrived=Side.of_change(change),
        event_id=change.event_id,
        won=won,
        rule="last_write_wins: the higher content hash",
    )
