"""What profiles, reviews and conflicts must come to: the agreed facts, read straight off a whole history.

It shares nothing with the code under test but the shape of a change: no memory, no order, every pair of
values that were ever written held against each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from typing import Any, NamedTuple

import orjson

from syncline.model.decision import Conflict, Review
from syncline.model.part import Part

WINDOW_US = 5_000_000
TOLERANCE_US = 300_000_000

OWNERS_FIRST: dict[str, tuple[str, ...]] = {
    "email": ("storefront", "crm", "support"),
    "phone": ("storefront", "crm", "support"),
    "full_name": ("storefront", "crm"),
    "address": ("storefront", "crm", "support"),
    "marketing_consent": ("storefront", "crm", "support"),
    "notes": ("support",),
}
MANUAL = {"email", "phone"}
RULES = {
    **dict.fromkeys(OWNERS_FIRST, "last_write_wins"),
    **dict.fromkeys(MANUAL, "manual"),
    "marketing_consent": "merge: latest_consent",
}


class Value(NamedTuple):
    field: str
    writer: str
    version: int
    at_us: int
    value: Any
    saw: Mapping[str, int]
    is_from_the_future: bool

    @property
    def json(self) -> str:
        return orjson.dumps(self.value, option=orjson.OPT_SORT_KEYS).decode()

    @property
    def side(self) -> tuple[str, int, str]:
        return self.writer, self.version, self.json

    @property
    def rank(self) -> int:
        return ("resolution", *OWNERS_FIRST[self.field]).index(self.writer)

    @property
    def may_be(self) -> bool:
        return self.writer in {"resolution", *OWNERS_FIRST[self.field]}


def values(part: Part) -> list[Value]:
    """All that a change says, fields of others too."""
    fields = part.change.fields
    if part.body is None:
        return []
    if part.slot.startswith("resolution:"):
        made = ("resolution", part.version.row, fields["at"], fields["value"], fields["covers"])
        return [_value(part, fields["field"], *made)]
    found = []
    for field, said in fields["field_versions"].items():
        value = fields[field]
        if field == "marketing_consent":
            value = {"marketing_consent": value, "consent_at": fields["consent_at"]}
        saw = fields["based_on"].get(field, {})
        found.append(_value(part, field, part.slot, said["version"], said["at"], value, saw))
    return found


def _value(
    part: Part, field: str, writer: str, version: int, at: str, value: object, saw: Mapping[str, int]
) -> Value:
    at_us = round(datetime.fromisoformat(at).timestamp() * 1_000_000)
    committed = part.change.committed_at_us
    is_future = at_us > committed + TOLERANCE_US
    return Value(field, writer, version, committed if is_future else at_us, value, saw, is_future)


def knows(x: Value, y: Value) -> bool:
    """By itself, without a look at what y says of x."""
    if "resolution" in {x.writer, y.writer} and x.field not in MANUAL:
        resolution, other = (x, y) if x.writer == "resolution" else (y, x)
        is_covered = other.version <= resolution.saw.get(other.writer, 0)
        return is_covered == (x is resolution)
    if y.writer == "resolution" and x.version <= y.saw.get(x.writer, 0):
        return False
    if y.writer in x.saw:
        return x.saw[y.writer] >= y.version
    return x.at_us - y.at_us > WINDOW_US


def supersedes(x: Value, y: Value) -> bool:
    if x.writer == y.writer or not knows(x, y):
        return False
    mutual = knows(y, x)
    return not mutual or (x.version, -x.rank, x.json) > (y.version, -y.rank, y.json)


def strength(value: Value) -> tuple[Any, ...]:
    """Of the strategies that ask nobody."""
    consent: tuple[Any, ...] = ()
    if value.field == "marketing_consent":
        given = value.value["marketing_consent"]
        consent = value.value["consent_at"] or "", given is False, given is True
    return value.writer != "resolution", *consent, value.version, -value.rank


def newest(history: Iterable[Part]) -> list[Part]:
    """Of each writer's row, and of each field's resolution."""
    found: dict[str, Part] = {}
    for part in history:
        if part.entity not in found or part.rank > found[part.entity].rank:
            found[part.entity] = part
    return list(found.values())


class Profile(NamedTuple):
    fields: dict[str, Any]
    """By column."""
    is_hidden: bool
    versions: dict[str, list[int]]
    """By entity."""
    open_reviews: dict[str, tuple[dict[str, str], str]]
    """By field: what each head says, and whose stands."""


def profile(history: Sequence[Part]) -> Profile:
    """Of the changes of one customer."""
    parts = newest(history)
    said = [value for part in parts for value in values(part) if value.may_be]
    columns: dict[str, Any] = {}
    reviews: dict[str, tuple[dict[str, str], str]] = {}
    for field in OWNERS_FIRST:
        of_field = [value for value in said if value.field == field]
        covers = next((value.saw for value in of_field if value.writer == "resolution"), {})
        left = [value for value in of_field if value.version > covers.get(value.writer, 0)]
        chosen = None
        if left and field in MANUAL:
            heads = [x for x in left if not any(supersedes(y, x) for y in left)] or left
            chosen = min(heads, key=lambda value: value.rank)
            if len({head.json for head in heads}) > 1:
                reviews[field] = {head.writer: head.json for head in heads}, chosen.writer
        elif left:
            chosen = max(left, key=strength)
        if field == "marketing_consent":
            columns |= chosen.value if chosen else {"marketing_consent": None, "consent_at": None}
        else:
            columns[field] = chosen.value if chosen else None
    rows = [part for part in parts if not part.slot.startswith("resolution:") and part.body is not None]
    versions = {part.entity: list(part.version) for part in parts}
    return Profile(columns, not rows, versions, reviews)


Told = tuple[str, str, str, frozenset[tuple[str, int, str]], str, tuple[str, int, str] | None]
"""Kind, customer, field, both sides in no order, rule, and which of them won."""


def conflicts(history: Sequence[Part]) -> set[Told]:
    """All that a history holds, each once; where a time was put right, by the first change that told it."""
    first: dict[tuple[str, str, str, int, str], Value] = {}
    for part in sorted(history, key=lambda part: part.rank):
        for value in values(part):
            first.setdefault((part.document_id, value.field, *value.side), value)
    told: set[Told] = set()
    for (customer, field, *_), value in first.items():
        one = frozenset({value.side})
        if not value.may_be:
            told.add(("ownership", customer, field, one, "not_a_writer_of_the_field", None))
        elif value.is_from_the_future:
            told.add(("timestamp", customer, field, one, "field_time_in_future", value.side))
    for ((customer, field, *_), x), ((other_customer, other_field, *_), y) in combinations(first.items(), 2):
        if (customer, field) != (other_customer, other_field) or not (x.may_be and y.may_be):
            continue
        if x.writer == y.writer or x.json == y.json or knows(x, y) or knows(y, x):
            continue
        kind = "version" if y.writer in x.saw or x.writer in y.saw else "timestamp"
        winner = min(x, y, key=lambda value: value.rank) if field in MANUAL else max(x, y, key=strength)
        told.add((kind, customer, field, frozenset({x.side, y.side}), RULES[field], winner.side))
    return told


def told(conflict: Conflict) -> Told:
    """A conflict as it was told, in the shape of the reference."""
    sides = {
        position: (side.writer, side.version[0], _json(side.value))
        for position, side in (("known", conflict.known), ("arrived", conflict.arrived))
        if side.version
    }
    winner = sides.get("arrived" if conflict.won else "known")
    entity, both = conflict.entity, frozenset(sides.values())
    return str(conflict.kind), entity.id, conflict.field, both, str(conflict.rule), winner


def open_reviews(reviews: Iterable[Review]) -> dict[tuple[str, str], tuple[dict[str, str], str]]:
    """What of all that was told is still open: of each field the newest telling counts."""
    last: dict[tuple[str, str], Review] = {}
    for review in reviews:
        key = review.entity.id, review.field
        if key not in last or review.document_version >= last[key].document_version:
            last[key] = review
    return {
        key: ({writer: _json(made.value) for writer, made in review.candidates.items()}, review.standing)
        for key, review in last.items()
        if review.is_open
    }


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
