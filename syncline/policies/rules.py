"""The rules that data must keep before it reaches a copy, made of what the policies say.

A rule looks at one part and answers what is wrong, naming the column, its value and what would be right;
``None`` where nothing is. A value that is not there breaks no rule but ``required``.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from syncline.model.values import E4_DECIMALS

Check = Callable[[dict[str, Any], str], str | None]
"""Of a part's body and slot."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``is_between_fields``: two values contradict each other, which is a conflict and not mere bad input."""

    check: Check
    is_between_fields: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """How a column's value is found in a part: along a path of the body's fields, or (``()``) as the slot."""

    column: str
    path: tuple[str, ...]
    is_text: bool
    is_e4: bool

    @property
    def read(self) -> Callable[[dict[str, Any], str], Any]:
        if not self.path:
            return lambda _body, slot: slot
        if len(self.path) == 1:
            [field] = self.path
            return lambda body, _slot: body[field]
        outer, inner = self.path
        return lambda body, _slot: body[outer][inner]

    def show(self, value: object) -> str:
        """As the owner wrote it."""
        if value is None:
            return "null"
        if self.is_e4 and isinstance(value, int):
            return f"{value / 10**E4_DECIMALS:.{E4_DECIMALS}f}"
        return repr(value)

    def bound(self, number: float) -> float:
        """A bound of the policy, in the unit of the field."""
        return number * 10**E4_DECIMALS if self.is_e4 else number


def required(value: Value) -> Rule:
    read, is_text = value.read, value.is_text

    def check(body: dict[str, Any], slot: str) -> str | None:
        found = read(body, slot)
        if found is not None and (not is_text or found.strip()):
            return None
        return f"{value.column}: {value.show(found)} is empty; it must be there"

    return Rule(check)


def within(value: Value, lowest: float | None, highest: float | None) -> Rule:
    read = value.read
    low = float("-inf") if lowest is None else value.bound(lowest)
    high = float("inf") if highest is None else value.bound(highest)
    right = " and ".join(
        [
            *([] if lowest is None else [f"at least {lowest:g}"]),
            *([] if highest is None else [f"at most {highest:g}"]),
        ]
    )

    def check(body: dict[str, Any], slot: str) -> str | None:
        found = read(body, slot)
        if found is None or low <= found <= high:
            return None
        return f"{value.column}: {value.show(found)} must be {right}"

    return Rule(check)


def one_of(value: Value, allowed: Collection[object]) -> Rule:
    read, members = value.read, frozenset(allowed)
    right = ", ".join(map(str, allowed))

    def check(body: dict[str, Any], slot: str) -> str | None:
        found = read(body, slot)
        if found is None or found in members:
            return None
        return f"{value.column}: {value.show(found)} is unknown; it must be one of {right}"

    return Rule(check)


def pattern(value: Value, regular_expression: str) -> Rule:
    read, match = value.read, re.compile(regular_expression).fullmatch

    def check(body: dict[str, Any], slot: str) -> str | None:
        found = read(body, slot)
        if found is None or match(found):
            return None
        return f"{value.column}: {value.show(found)} must match {regular_expression}"

    return Rule(check)


def at_most(value: Value, other: Value) -> Rule:
    read, read_other = value.read, other.read

    def check(body: dict[str, Any], slot: str) -> str | None:
        found, bound = read(body, slot), read_other(body, slot)
        if found is None or bound is None or found <= bound:
            return None
        return f"{value.column}: {value.show(found)} must be at most {other.column}, {other.show(bound)}"

    return Rule(check, is_between_fields=True)


def by_function(function: Callable[[dict[str, Any]], str | None]) -> Rule:
    return Rule(lambda body, _slot: function(body))
