"""Step 6: does the part keep the rules of its entity?"""

from collections.abc import Mapping, Sequence

from syncline.model.errors import Invalid
from syncline.model.part import Part
from syncline.policies.validation import Rule


class Validate:
    """Checks each part by all the rules for its entity's type."""

    def __init__(self, rules: Mapping[str, Sequence[Rule]]) -> None:
        self._rules = rules

    def __call__(self, part: Part) -> Invalid | None:
        """All that is wrong with the part, or ``None``."""
        if part.body is None:
            return None
        complaints = None
        for rule in self._rules.get(part.change.entity.type, ()):
            complaint = rule(part)
            if complaint is not None:
                complaints = complaint if complaints is None else f"{complaints}; {complaint}"
        return None if complaints is None else Invalid(complaints)
