"""Which conflicts a part brings: pairs of concurrent values, fields of others, and times that cannot be.

Whether two values conflict depends on the two alone, never on what stands or what came first. So each pair
is told the same way whenever it is told, and the audit keeps it once.
"""

from collections.abc import Iterator, Sequence

from syncline.model.change import EntityKey
from syncline.model.decision import Conflict, ConflictKind, Side
from syncline.model.part import Part
from syncline.policies.field_history import FieldHistory, Remembered
from syncline.policies.field_merge import FieldMerge, FieldVersion

FIELD_TIME_IN_FUTURE = "field_time_in_future"
NOT_A_WRITER = "not_a_writer_of_the_field"

Said = tuple[FieldMerge, FieldVersion, bool]
"""A value that a part states, and whether its time had to be put right."""


class FieldConflicts:
    """Tells the conflicts of one part, whose values are all in the history."""

    def __init__(self, entity: EntityKey, history: FieldHistory, part: Part, said: Sequence[Said]) -> None:
        self._entity = entity
        self._history = history
        self._part = part
        self._said = said

    def __iter__(self) -> Iterator[Conflict]:
        for merge, stated, is_time_put_right in self._said:
            row_version = self._part.version.row
            made, brought_by = self._history.first_seen(merge.policy.name, stated) or Remembered(
                stated, row_version
            )
            if brought_by < row_version:
                # An earlier change brought it, and told its conflicts or will be sent again.
                continue
            if not merge.may_write(made.writer):
                owner = merge.policy.writers[0]
                yield self._conflict(ConflictKind.OWNERSHIP, merge, _nothing_of(owner), made, NOT_A_WRITER)
                continue
            if is_time_put_right:
                known = _nothing_of(made.writer)
                yield self._conflict(ConflictKind.TIMESTAMP, merge, known, made, FIELD_TIME_IN_FUTURE)
            yield from self._pairs(merge, made)

    def _pairs(self, merge: FieldMerge, made: FieldVersion) -> Iterator[Conflict]:
        for other in self._history.of_others(merge.policy.name, made.writer):
            if (
                merge.may_write(other.writer)
                and other.content_hash != made.content_hash
                and merge.are_concurrent(made, other)
            ):
                is_told = other.writer in made.based_on or made.writer in other.based_on
                kind = ConflictKind.VERSION if is_told else ConflictKind.TIMESTAMP
                won = merge.stronger(made, other) is made
                yield self._conflict(kind, merge, _side(other), made, _rule(merge), won=won)

    def _conflict(
        self,
        kind: ConflictKind,
        merge: FieldMerge,
        known: Side,
        arrived: FieldVersion,
        rule: str,
        *,
        won: bool | None = None,
    ) -> Conflict:
        side = _side(arrived)._replace(position=self._part.change.message.position)
        won = kind is not ConflictKind.OWNERSHIP if won is None else won
        return Conflict(
            kind,
            self._entity,
            merge.policy.name,
            known=known,
            arrived=side,
            event_id=self._part.change.event_id,
            won=won,
            rule=rule,
        )


def _side(made: FieldVersion) -> Side:
    return Side(made.writer, (made.version,), made.content_hash, made.value)


def _nothing_of(writer: str) -> Side:
    """The change conflicts with no other one: what it says is wrong by itself."""
    return Side(writer, (), "")


def _rule(merge: FieldMerge) -> str:
    strategy, rule = merge.policy.strategy, merge.policy.rule
    return strategy if rule is None else f"{strategy}: {rule}"
