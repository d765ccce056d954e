"""Step 5: what stands when two changes meet. Last write wins, by version and never by arrival."""

from collections.abc import Iterable, Sequence

from syncline.model.decision import Conflict, Decision, Known, Verdict
from syncline.model.document import Document, known
from syncline.model.part import Part


class Resolve:
    """Judges parts against the copy, and against each other.

    The order is total (version, then content hash), so the result does not depend on arrival.
    """

    def judge(self, part: Part, standing: Known | None) -> Verdict:
        if standing is None or part.change.version > standing.version:
            return Verdict(part, Decision.APPLIED)
        if part.change.version < standing.version:
            return Verdict(part, Decision.SUPERSEDED)
        if part.change.content_hash == standing.content_hash:
            return Verdict(part, Decision.DUPLICATE)
        won = part.change.content_hash > standing.content_hash
        conflict = Conflict("version", part, standing, won, "last_write_wins: the higher content hash")
        return Verdict(part, Decision.APPLIED if won else Decision.REJECTED, conflict)

    def against_copy(self, document: Document, parts: Iterable[Part]) -> list[Verdict]:
        """``APPLIED`` here means that the part may enter: the copy knows nothing that stands above it."""
        return [self.judge(part, known(document, part.entity)) for part in parts]

    def among(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Of those that may enter, let the newest of each entity enter; the others yield to it."""
        if len(verdicts) == len({verdict.part.entity for verdict in verdicts}):
            return list(verdicts)
        settled: list[Verdict] = []
        standing: dict[str, Known] = {}
        for verdict in sorted(verdicts, key=lambda verdict: verdict.part.rank, reverse=True):
            part = verdict.part
            winner = standing.get(part.entity)
            settled.append(verdict if winner is None else self.judge(part, winner))
            standing.setdefault(part.entity, Known(part.version, part.change.content_hash))
        return settled
