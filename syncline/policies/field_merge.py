"""What stands of one field of several writers: a function of their newest values, whatever came first.

A person's resolution is one more value, by the writer ``resolution``. It covers the versions that the person
saw: those step back for good, newer ones do not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from syncline.model.change import value_hash
from syncline.model.errors import Misconfigured
from syncline.policies.strategies import FieldPolicy, MergeRule, Strategy

RESOLUTION = "resolution"


class FieldVersion(NamedTuple):
    """A value of a field, as one writer made it."""

    writer: str
    version: int
    at_us: int
    """When it was made, in microseconds since the epoch."""
    value: Any
    based_on: Mapping[str, int]
    """By other writer: the version of its value that this one's writer had seen."""
    content_hash: str

    @classmethod
    def made(
        cls, writer: str, version: int, at_us: int, value: object, based_on: Mapping[str, int]
    ) -> "FieldVersion":
        return cls(writer, version, at_us, value, based_on, value_hash(value))

    def covers(self, other: "FieldVersion") -> bool:
        """Whether this is a resolution by someone who saw the other."""
        return self.writer == RESOLUTION and other.version <= self.based_on.get(other.writer, 0)


class Standing(NamedTuple):
    """``heads`` are the values that no other supersedes; a review is open while they differ."""

    chosen: FieldVersion
    heads: tuple[FieldVersion, ...]
    needs_review: bool


_Precedence = Callable[[Any], tuple[Any, ...]]
"""What orders the values of a field before their versions do; the highest stands."""


class _NamedRule(NamedTuple):
    columns: tuple[str, ...]
    """That the value is made of."""
    precedence: _Precedence


def _latest_consent(value: Mapping[str, Any]) -> tuple[str, int]:
    withdrawal_before_grant = {False: 2, True: 1, None: 0}[value["marketing_consent"]]
    return value["consent_at"] or "", withdrawal_before_grant


MERGE_RULES: Mapping[MergeRule, _NamedRule] = {
    MergeRule.LATEST_CONSENT: _NamedRule(("marketing_consent", "consent_at"), _latest_consent),
}


class FieldMerge:
    """Decides one field by its policy. Raises ``Misconfigured`` where its rule does not fit it."""

    def __init__(self, policy: FieldPolicy, window: timedelta) -> None:
        self.policy = policy
        self._window_us = window // timedelta(microseconds=1)
        self._ranks = {writer: rank for rank, writer in enumerate((RESOLUTION, *policy.writers))}
        self._is_manual = policy.strategy is Strategy.MANUAL
        self._precedence = _precedence(policy)

    def may_write(self, writer: str) -> bool:
        return writer in self._ranks

    def standing(self, candidates: Iterable[FieldVersion]) -> Standing | None:
        """What stands of each writer's newest value; ``None`` where no writer has one."""
        left = _uncovered(list(candidates))
        if not left:
            return None
        if not self._is_manual:
            chosen = max(left, key=self._rank_by_strategy)
            return Standing(chosen, (chosen,), needs_review=False)
        heads = self.heads(left)
        differ = any(head.content_hash != heads[0].content_hash for head in heads)
        return Standing(max(heads, key=self._rank_by_strategy), heads, differ)

    def heads(self, candidates: Sequence[FieldVersion]) -> tuple[FieldVersion, ...]:
        """Those that no other supersedes; all of them where each is superseded by another."""
        heads = [one for one in candidates if not any(self.supersedes(other, one) for other in candidates)]
        return tuple(heads or candidates)

    def supersedes(self, one: FieldVersion, other: FieldVersion) -> bool:
        """Whether one was made in the knowledge of the other: as its writer says, else long after it."""
        if one.writer == other.writer or not self._claims_to_supersede(one, other):
            return False
        return not self._claims_to_supersede(other, one) or self._rank_by_version(
            one
        ) > self._rank_by_version(other)

    def are_concurrent(self, one: FieldVersion, other: FieldVersion) -> bool:
        """Whether neither writer knew of the other's value."""
        return (
            one.writer != other.writer
            and not self._claims_to_supersede(one, other)
            and not self._claims_to_supersede(other, one)
        )

    def stronger(self, one: FieldVersion, other: FieldVersion) -> FieldVersion:
        """Which of two concurrent values stands as long as there is no third."""
        return max(one, other, key=self._rank_by_strategy)

    def _claims_to_supersede(self, one: FieldVersion, other: FieldVersion) -> bool:
        if other.covers(one):
            return False
        if not self._is_manual and RESOLUTION in {one.writer, other.writer}:
            return other.writer == RESOLUTION or one.covers(other)
        seen = one.based_on.get(other.writer)
        if seen is not None:
            return seen >= other.version
        return one.at_us - other.at_us > self._window_us

    def _rank_by_strategy(self, one: FieldVersion) -> tuple[Any, ...]:
        if self._is_manual:
            return (-self._ranks[one.writer],)
        # Whatever a resolution covers has stepped back: what is left came after it.
        return one.writer != RESOLUTION, *self._precedence(one.value), *self._rank_by_version(one)

    def _rank_by_version(self, one: FieldVersion) -> tuple[int, int, str]:
        return one.version, -self._ranks[one.writer], one.content_hash


def _uncovered(candidates: Sequence[FieldVersion]) -> list[FieldVersion]:
    return [one for one in candidates if not any(other.covers(one) for other in candidates)]


def _precedence(policy: FieldPolicy) -> _Precedence:
    if (policy.rule is not None) != (policy.strategy is Strategy.MERGE):
        raise Misconfigured(
            f"{policy.name}: the strategy {policy.strategy} with the rule {policy.rule} says nothing; "
            "a rule belongs to the strategy merge, and only to that"
        )
    if policy.rule is None:
        return lambda _: ()
    rule = MERGE_RULES[policy.rule]
    if policy.columns != rule.columns:
        raise Misconfigured(
            f"{policy.name}: the rule {policy.rule} cannot read the columns {', '.join(policy.columns)}; "
            f"it needs {', '.join(rule.columns)}"
        )
    return rule.precedence
