"""Step 6: does the part keep the rules of its entity?"""

from collections.abc import Mapping, Sequence

from syncline.model.decision import Conflict, ConflictKind, Known, Side
from syncline.model.errors import Contradictory, Invalid
from syncline.model.part import Part
from syncline.model.reentry import RESOLUTION_PRODUCER
from syncline.policies.rules import Rule


class Validate:
    """Checks each part by all the rules for its entity's type, or for the field that a person speaks of."""

    def __init__(self, rules: Mapping[str, Sequence[Rule]]) -> None:
        self._rules = rules

    def __call__(self, part: Part) -> Invalid | None:
        """All that is wrong with the part, or ``None``."""
        body, slot, change = part.body, part.slot, part.change
        if body is None:
            return None
        about = change.entity.type
        if change.producer == RESOLUTION_PRODUCER:
            about = f"{about}:{slot}"
        complaints: list[str] = []
        is_contradictory = False
        for rule in self._rules.get(about, ()):
            complaint = rule.check(body, slot)
            if complaint is not None:
                complaints.append(complaint)
                is_contradictory |= rule.is_between_fields
        if not complaints:
            return None
        text = "; ".join(complaints)
        return Contradictory(text) if is_contradictory else Invalid(text)


def contradiction(part: Part, standing: Known | None, complaint: str) -> Conflict:
    """The record of a change whose values contradict each other: what stands stays."""
    change = part.change
    known = Side.unseen(change.producer) if standing is None else Side.of_known(change.producer, standing)
    return Conflict(
        ConflictKind.BUSINESS_RULE,
        change.entity,
        field="",
        known=known,
        arrived=Side.of_change(change),
        event_id=change.event_id,
        won=False,
        rule=complaint,
    )
