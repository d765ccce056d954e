"""What a flow wants of all that is published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncline.model.change import Op
from syncline.policies.policy_file import Condition, FlowSection

Holds = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a flow wants of one entity: rows for which all conditions hold, and which operations."""

    operations: frozenset[str]
    conditions: tuple[Holds, ...]

    @classmethod
    def of(cls, section: FlowSection) -> "Wish":
        return cls(frozenset(section.operations), tuple(map(_holds, section.where)))

    @property
    def is_for_everything(self) -> bool:
        return not self.conditions and self.operations == {Op.UPSERT, Op.DELETE}

    def is_for(self, row: Mapping[str, Any]) -> bool:
        return all(holds(row) for holds in self.conditions)


@dataclass(frozen=True, slots=True)
class Subscription:
    flow: str
    wishes: Mapping[str, Wish]
    """By the type of the entity; others are not wanted at all."""


def _holds(condition: Condition) -> Holds:
    column = condition.column
    if condition.present is not None:
        wanted = condition.present
        return lambda row: (row.get(column) is not None) is wanted
    members = condition.one_of if condition.one_of is not None else condition.none_of or []
    is_in = condition.one_of is not None
    return lambda row: (row.get(column) in members) is is_in
